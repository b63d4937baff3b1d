"""The clusters of a run: which there are, by size or at random.

A list of clusters reads two narrow columns, part by part; ``views.duplicates.members`` reads what
belongs to the chosen ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from infra.dataset.dataset import Dataset, DatasetNotFoundError, IntegrityError, PartRef
from infra.dataset.fingerprint import hash_to_unit
from infra.errors import UserError
from infra.runs.run_records import RunRecord
from infra.store.storage import Storage

Order = Literal["largest", "random"]
MAX_LISTED = 5  # clusters named by a message


class ClusterNotFoundError(UserError):
    """What was asked for is not there; the message says what is."""


@dataclass(frozen=True)
class DuplicateData:
    """The marks of a run beside the documents and verdicts they belong to.

    Attributes:
        duplicate_labels: the data set of deduplication.
        documents: the parts of the documents, one per part of ``duplicate_labels``.
        corpus: what select made of it, if it did.
    """

    duplicate_labels: Dataset
    documents: Sequence[PartRef]
    corpus: Dataset | None

    @staticmethod
    def from_run(storage: Storage, record: RunRecord) -> "DuplicateData":
        """What a run found.

        Raises:
            NoClusters: if the run has not deduplicated.
        """
        there = {entry.fingerprint: entry for entry in record.stages}
        made = {entry.stage: entry for entry in record.stages if entry.source is None}
        if "dedup" not in made:
            raise ClusterNotFoundError(
                f"run {record.run} of {record.recipe} stopped before dedup; go on from"
            )
        marks = made["dedup"].open(storage)
        documents: list[PartRef] = []
        for item in marks.manifest.inputs:
            if item["stage"] != "annotate" and item["fingerprint"] in there:
                documents += there[item["fingerprint"]].open(storage).parts
        if [part.num_rows for part in documents] != [part.num_rows for part in marks.parts]:
            raise IntegrityError(f"{marks.storage.url}: its rows are not those of the documents")
        corpus = None
        if "select" in made:
            try:
                corpus = made["select"].open(storage)
            except DatasetNotFoundError:
                corpus = None
        return DuplicateData(marks, documents, corpus)

    @property
    def verdict_parts(self) -> Sequence[PartRef | None]:
        """Per part the one of the corpus that tells its verdicts."""
        if self.corpus is None or len(self.corpus.parts) != len(self.documents):
            return [None] * len(self.documents)
        return self.corpus.parts


def select_clusters(
    data: DuplicateData,
    n: int,
    order: Order = "largest",
    *,
    seed: int = 0,
    source: str | None = None,
) -> list[str]:
    """The names of some clusters, the same ones at every call.

    Args:
        data: of a run.
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
        for marked, part in zip(data.duplicate_labels.parts, data.documents, strict=True)
        if source in (None, part.source)
    ]
    if source is not None and not parts:
        known = sorted({str(part.source) for part in data.documents})
        raise ClusterNotFoundError(f"no source is named {source!r}; there are {', '.join(known)}")
    point = f"{int(hash_to_unit('clusters', seed) * 2**32):08x}"
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


def resolve_cluster_id(data: DuplicateData, prefix: str) -> str:
    """The cluster of this name, or whose name begins so.

    Raises:
        NoClusters: if there is none, or several.
    """
    found: set[str] = set()
    for part in data.duplicate_labels.parts:
        column = part.table(["cluster"])["cluster"]
        hit = column.filter(pc.starts_with(column, prefix.lower()).fill_null(False))
        found.update(hit.unique().to_pylist())
    if len(found) == 1 or prefix in found:
        return prefix if prefix in found else found.pop()
    if not found:
        raise ClusterNotFoundError(
            f"no cluster is named {prefix!r}; without --cluster, the largest are listed"
        )
    shown = ", ".join(sorted(found)[:MAX_LISTED])
    raise ClusterNotFoundError(
        f"{len(found):,} clusters have a name that begins with {prefix!r}: {shown}"
    )
