"""The clusters of a run: which there are, by size or at random.

A list of clusters reads two narrow columns, part by part; ``views.duplicates.members`` reads what
belongs to the chosen ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from infra.dataset.dataset import BrokenPromise, Dataset, NotCommitted, PartRef
from infra.dataset.fingerprint import unit_interval
from infra.errors import UserError
from infra.runs.run_records import RunRecord
from infra.store.storage import Storage

Order = Literal["largest", "random"]
SHOWN = 5  # clusters named by a message


class NoClusters(UserError):
    """What was asked for is not there; the message says what is."""


@dataclass(frozen=True)
class Copies:
    """The marks of a run beside the documents and verdicts they belong to.

    Attributes:
        marks: the data set of deduplication.
        documents: the parts of the documents, one per part of ``marks``.
        corpus: what select made of it, if it did.
    """

    marks: Dataset
    documents: Sequence[PartRef]
    corpus: Dataset | None

    @staticmethod
    def of(storage: Storage, record: RunRecord) -> "Copies":
        """What a run found.

        Raises:
            NoClusters: if the run has not deduplicated.
        """
        there = {entry.fingerprint: entry for entry in record.stages}
        made = {entry.stage: entry for entry in record.stages if entry.source is None}
        if "dedup" not in made:
            raise NoClusters(
                f"run {record.run} of {record.recipe} stopped before dedup; go on from"
            )
        marks = made["dedup"].open(storage)
        documents: list[PartRef] = []
        for item in marks.manifest.inputs:
            if item["stage"] != "annotate" and item["fingerprint"] in there:
                documents += there[item["fingerprint"]].open(storage).parts
        if [part.rows for part in documents] != [part.rows for part in marks.parts]:
            raise BrokenPromise(f"{marks.storage.url}: its rows are not those of the documents")
        corpus = None
        if "select" in made:
            try:
                corpus = made["select"].open(storage)
            except NotCommitted:
                corpus = None
        return Copies(marks, documents, corpus)

    @property
    def judges(self) -> Sequence[PartRef | None]:
        """Per part the one of the corpus that tells its verdicts."""
        if self.corpus is None or len(self.corpus.parts) != len(self.documents):
            return [None] * len(self.documents)
        return self.corpus.parts


def pick(
    copies: Copies, n: int, order: Order = "largest", *, seed: int = 0, source: str | None = None
) -> list[str]:
    """The names of some clusters, the same ones at every call.

    Args:
        copies: of a run.
        n: how many.
        order: ``largest`` first, or a ``random`` sample: names are digests, so those that follow a
            point drawn from the seed are one; a larger sample holds the smaller ones.
        seed: of the sample.
        source: only clusters with a document of this source.

    Raises:
        NoClusters: if there is no such source.
    """
    parts = [
        marked
        for marked, part in zip(copies.marks.parts, copies.documents, strict=True)
        if source in (None, part.source)
    ]
    if source is not None and not parts:
        known = sorted({str(part.source) for part in copies.documents})
        raise NoClusters(f"no source is named {source!r}; there are {', '.join(known)}")
    point = f"{int(unit_interval('clusters', seed) * 2**32):08x}"
    best: dict[str, tuple[int, str]] = {}
    for part in parts:
        table = part.table(["cluster", "cluster_size"])
        table = table.filter(pc.is_valid(table["cluster"]))
        first = (
            pc.negate(table["cluster_size"])
            if order == "largest"
            else pc.less(table["cluster"], point).cast(pa.int32())
        )
        rows = pa.table({"first": first, "cluster": table["cluster"]})
        rows = rows.group_by(["first", "cluster"]).aggregate([])
        rows = rows.sort_by([("first", "ascending"), ("cluster", "ascending")])
        for row in rows.slice(0, n).to_pylist():
            best[row["cluster"]] = (row["first"], row["cluster"])
        best = {name: best[name] for name in sorted(best, key=lambda one: best[one])[:n]}
    return list(best)


def named(copies: Copies, name: str) -> str:
    """The cluster of this name, or whose name begins so.

    Raises:
        NoClusters: if there is none, or several.
    """
    found: set[str] = set()
    for part in copies.marks.parts:
        column = part.table(["cluster"])["cluster"]
        hit = column.filter(pc.starts_with(column, name.lower()).fill_null(False))
        found.update(hit.unique().to_pylist())
    if len(found) == 1 or name in found:
        return name if name in found else found.pop()
    if not found:
        raise NoClusters(f"no cluster is named {name!r}; without --cluster, the largest are listed")
    shown = ", ".join(sorted(found)[:SHOWN])
    raise NoClusters(f"{len(found):,} clusters have a name that begins with {name!r}: {shown}")
