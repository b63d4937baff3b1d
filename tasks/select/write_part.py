"""One part of the corpus: what the workers do before and after the election."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from infra.dataset.dataset import PartRef
from infra.dataset.ledger import KEPT, verdicts
from infra.dataset.stage import Outcome
from infra.removals.match import REASON as REMOVED
from tasks.select.config import Gates
from tasks.select.pii_mask import edit_documents
from tasks.select.rules import PRIVATE, columns, evidence, judge

STAGE = "select"
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Triple:
    """A part of the documents with what is known of it; picklable.

    Attributes:
        source: the source's place in the recipe.
        documents: the texts.
        notes: their annotations: a row per document that ``annotate`` kept.
        marks: their duplicate marks: a row per document.
    """

    source: int
    documents: PartRef
    notes: PartRef
    marks: PartRef

    @cached_property
    def rows(self) -> I64 | None:
        """The documents that have notes, by row; ``None`` if all have."""
        if self.notes.rows == self.documents.rows:
            return None
        return np.flatnonzero(pc.equal(self.notes.verdicts()["verdict"], KEPT).to_numpy())

    def read(self, part: PartRef, names: Sequence[str] | None = None) -> pa.Table:
        """The rows of ``documents`` or ``marks`` that have notes."""
        table = part.table(names)
        return table if self.rows is None else table.take(self.rows)


def write(
    triple: Triple,
    gates: Gates,
    dropped: Mapping[str, Mapping[str, Any]],
    trimmed: Mapping[str, Mapping[str, Any]],
) -> Iterator[Outcome]:
    """The corpus of one part.

    Args:
        triple: the part.
        gates: what holds for its source.
        dropped: by row of the documents' part, as text: ``reason`` and ``evidence`` of a document
            that was taken out, or lost to another.
        trimmed: likewise, ``cuts`` in characters and ``evidence`` of one that stays with less text.
    """
    names = {*columns(gates), "language", "language_score", "words"}
    if gates.pii == "mask":
        names.update(PRIVATE)
    notes = triple.notes.table(sorted(names)).combine_chunks()
    judged = judge(notes, gates)
    table = triple.read(triple.documents)
    reasons: list[str | None] = [None] * table.num_rows
    proof: list[Mapping[str, Any] | None] = [None] * table.num_rows
    for row in range(table.num_rows):
        loss = dropped.get(str(row if triple.rows is None else triple.rows[row]))
        reason = judged.reason(row)
        if loss is not None and loss["reason"] == REMOVED:
            reasons[row], proof[row] = loss["reason"], loss["evidence"]
        elif reason is not None:
            reasons[row], proof[row] = reason, evidence(notes, gates, row, reason)
        elif loss is not None:
            reasons[row], proof[row] = loss["reason"], loss["evidence"]
    stay = np.array([reason is None for reason in reasons], bool)
    kept = table.filter(stay)
    left = np.flatnonzero(stay).tolist()
    cuts: dict[int, Any] = {}
    for place, row in enumerate(left):
        cut = trimmed.get(str(row if triple.rows is None else triple.rows[row]))
        if cut is not None:
            cuts[place], proof[row] = cut["cuts"], cut["evidence"]
    private = notes.filter(stay) if gates.pii == "mask" else None
    kept, kinds = edit_documents(kept, private, cuts)
    for row, masked in zip(left, kinds, strict=True):
        if masked:
            proof[row] = {**(proof[row] or {}), "masked": masked}
    marks = triple.read(triple.marks, ["cluster", "cluster_size"]).filter(stay)
    for name in ("language", "language_score", "words"):
        kept = kept.append_column(name, notes[name].filter(stay))
    for name in ("cluster", "cluster_size"):
        kept = kept.append_column(name, marks[name])
    said = verdicts(
        STAGE,
        table["id"].to_pylist(),
        urls=table["url"].to_pylist(),
        reasons=reasons,
        evidence=proof,
    )
    yield Outcome(kept, said)
