"""Select duplicate clusters of a run, by size or at random.

Two narrow columns are read, part by part; ``views.duplicates.members`` loads the members of the
selected clusters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.fingerprint import hash_to_unit
from infra.dataset.manifest import IntegrityError
from infra.dataset.step import Steps, steps_with_output
from infra.errors import UserError
from infra.runs.run_records import RunRecord
from infra.store.storage import Storage

Order = Literal["largest", "random"]
MAX_LISTED = 5  # clusters in a message


class ClusterNotFoundError(UserError):
    """The run has no such cluster or source; the message lists existing ones."""


@dataclass(frozen=True)
class DuplicateData:
    """The duplicate labels of a run with the documents and verdicts they belong to.

    Attributes:
        documents: the parts of the documents, one per part of ``duplicate_labels``.
        corpus: the selection, if it exists.
    """

    duplicate_labels: Dataset
    documents: Sequence[PartRef]
    corpus: Dataset | None

    @staticmethod
    def from_run(storage: Storage, record: RunRecord, steps: Steps) -> "DuplicateData":
        """Open the duplicate labels of a run.

        Raises:
            ClusterNotFoundError: if the run was not deduplicated.
            DatasetNotFoundError: if the labels or the documents were deleted.
            IntegrityError: if the labels do not fit the documents.
        """
        by_fingerprint = {entry.fingerprint: entry for entry in record.stages}
        label_stages = steps_with_output(steps, "duplicate_labels")
        entry = next((item for item in record.stages if item.stage in label_stages), None)
        if entry is None:
            raise ClusterNotFoundError(
                f"run {record.run} of {record.recipe} stopped before {' and '.join(label_stages)}; "
                "run the recipe further"
            )
        labels = entry.open(storage)
        document_stages = steps_with_output(steps, "documents")
        documents: list[PartRef] = []
        for item in labels.manifest.inputs:
            if item["stage"] in document_stages and item["fingerprint"] in by_fingerprint:
                documents += by_fingerprint[item["fingerprint"]].open(storage).parts
        if [part.num_rows for part in documents] != [part.num_rows for part in labels.parts]:
            raise IntegrityError(f"{labels.storage.url}: its rows are not those of the documents")
        corpus_stages = steps_with_output(steps, "corpus")
        selected = next((item for item in record.stages if item.stage in corpus_stages), None)
        return DuplicateData(
            labels, documents, None if selected is None else selected.try_open(storage)
        )

    @property
    def verdict_parts(self) -> Sequence[PartRef | None]:
        """For each part of the documents, the part of the corpus with their verdicts."""
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
    """Return the ids of some clusters; every call returns the same ones.

    Args:
        data: the duplicate labels of a run.
        n: how many.
        order: the ``largest`` clusters, or a ``random`` sample: ids are digests, so those that
            follow a number drawn from the seed are one. A larger sample contains the smaller ones.
        seed: of the sample.
        source: only clusters with a document of this source.

    Raises:
        ClusterNotFoundError: if there is no such source.
    """
    parts = [
        labels
        for labels, documents in zip(data.duplicate_labels.parts, data.documents, strict=True)
        if source in (None, documents.source)
    ]
    if source is not None and not parts:
        known = sorted({str(part.source) for part in data.documents})
        raise ClusterNotFoundError(f"no source is named {source!r}; there are {', '.join(known)}")
    start = f"{int(hash_to_unit('clusters', seed) * 2**32):08x}"
    best: dict[str, tuple[int, str]] = {}
    for part in parts:
        table = part.table(["cluster", "cluster_size"])
        table = table.filter(pc.is_valid(table["cluster"]))
        key = (
            pc.negate(table["cluster_size"])
            if order == "largest"
            else pc.less(table["cluster"], start).cast(pa.int32())
        )
        rows = pa.table({"key": key, "cluster": table["cluster"]})
        rows = rows.group_by(["key", "cluster"]).aggregate([])
        rows = rows.sort_by([("key", "ascending"), ("cluster", "ascending")])
        for row in rows.slice(0, n).to_pylist():
            best[row["cluster"]] = (row["key"], row["cluster"])
        best = dict(sorted(best.items(), key=itemgetter(1))[:n])
    return list(best)


def resolve_cluster_id(data: DuplicateData, prefix: str) -> str:
    """Return the id of the cluster whose id is, or begins with, a prefix.

    Raises:
        ClusterNotFoundError: if there is none, or several.
    """
    ids: set[str] = set()
    for part in data.duplicate_labels.parts:
        column = part.table(["cluster"])["cluster"]
        hit = column.filter(pc.starts_with(column, prefix.lower()).fill_null(False))
        ids.update(hit.unique().to_pylist())
    if prefix in ids:
        return prefix
    if not ids:
        raise ClusterNotFoundError(
            f"no cluster has an id that begins with {prefix!r}; without --cluster, the largest "
            "are listed"
        )
    if len(ids) > 1:
        shown = ", ".join(sorted(ids)[:MAX_LISTED])
        raise ClusterNotFoundError(f"{len(ids):,} cluster ids begin with {prefix!r}: {shown}")
    return ids.pop()
