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
from infra.dataset.ledger import KEPT, ledger_table
from infra.dataset.stage import PartResult
from infra.removals.match import REMOVED
from infra.schemas.annotations import PII_COLUMNS
from tasks.select.config import SourceFilters
from tasks.select.pii_mask import edit_documents
from tasks.select.rules import apply_rules, required_columns, rule_evidence

STAGE = "select"
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PartInputs:
    """A part of the documents with what is known of it; picklable.

    Attributes:
        source_index: the source's place in the recipe.
        documents: the texts.
        annotations: their annotations: a row per document that ``annotate`` kept.
        duplicate_labels: their duplicate marks: a row per document.
    """

    source_index: int
    documents: PartRef
    annotations: PartRef
    duplicate_labels: PartRef

    @cached_property
    def annotated_rows(self) -> I64 | None:
        """The documents that have notes, by row; ``None`` if all have."""
        if self.annotations.num_rows == self.documents.num_rows:
            return None
        return np.flatnonzero(pc.equal(self.annotations.verdicts()["verdict"], KEPT).to_numpy())

    def read_annotated(self, part: PartRef, names: Sequence[str] | None = None) -> pa.Table:
        """The rows of ``documents`` or ``duplicate_labels`` that have notes."""
        table = part.table(names)
        return table if self.annotated_rows is None else table.take(self.annotated_rows)


def write_corpus_part(
    inputs: PartInputs,
    filters: SourceFilters,
    dropped: Mapping[str, Mapping[str, Any]],
    trimmed: Mapping[str, Mapping[str, Any]],
) -> Iterator[PartResult]:
    """The corpus of one part.

    Args:
        inputs: the part.
        filters: what holds for its source.
        dropped: by row of the documents' part, as text: ``reason`` and ``evidence`` of a document
            that was taken out, or lost to another.
        trimmed: likewise, ``cuts`` in characters and ``evidence`` of one that stays with less text.
    """
    names = {*required_columns(filters), "language", "language_score", "words"}
    if filters.pii == "mask":
        names.update(PII_COLUMNS)
    notes = inputs.annotations.table(sorted(names)).combine_chunks()
    judged = apply_rules(notes, filters)
    table = inputs.read_annotated(inputs.documents)
    reasons: list[str | None] = [None] * table.num_rows
    proof: list[Mapping[str, Any] | None] = [None] * table.num_rows
    for row in range(table.num_rows):
        loss = dropped.get(
            str(row if inputs.annotated_rows is None else inputs.annotated_rows[row])
        )
        reason = judged.reason(row)
        if loss is not None and loss["reason"] == REMOVED:
            reasons[row], proof[row] = loss["reason"], loss["evidence"]
        elif reason is not None:
            reasons[row], proof[row] = reason, rule_evidence(notes, filters, row, reason)
        elif loss is not None:
            reasons[row], proof[row] = loss["reason"], loss["evidence"]
    stay = np.array([reason is None for reason in reasons], bool)
    kept = table.filter(stay)
    left = np.flatnonzero(stay).tolist()
    cuts: dict[int, Any] = {}
    for place, row in enumerate(left):
        cut = trimmed.get(str(row if inputs.annotated_rows is None else inputs.annotated_rows[row]))
        if cut is not None:
            cuts[place], proof[row] = cut["cuts"], cut["evidence"]
    private = notes.filter(stay) if filters.pii == "mask" else None
    kept, kinds = edit_documents(kept, private, cuts)
    for row, masked in zip(left, kinds, strict=True):
        if masked:
            proof[row] = {**(proof[row] or {}), "masked": masked}
    marks = inputs.read_annotated(inputs.duplicate_labels, ["cluster", "cluster_size"]).filter(stay)
    for name in ("language", "language_score", "words"):
        kept = kept.append_column(name, notes[name].filter(stay))
    for name in ("cluster", "cluster_size"):
        kept = kept.append_column(name, marks[name])
    said = ledger_table(
        STAGE,
        table["id"].to_pylist(),
        urls=table["url"].to_pylist(),
        reasons=reasons,
        evidence=proof,
    )
    yield PartResult(kept, said)
