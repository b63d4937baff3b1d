"""The pairs of duplicates that deduplication verified, as files of its data set."""

import io
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from infra.dataset.dataset import Dataset

VERIFIED_PREFIX = "verified_pairs-"  # and a number: files of verified pairs
REJECTED_PREFIX = "rejected_pairs-"  # files of pairs that were compared and rejected


def iter_verified_pairs(duplicate_labels: Dataset) -> Iterator[pa.Table]:
    """The verified pairs, file by file.

    Columns: ``cluster``; ``part_a``, ``row_a``, ``part_b``, ``row_b``, part and row, among all parts
    of the documents in the order of the recipe, of the first document of each exact group; ``similarity``;
    ``band``, the first band in which the pair was a candidate, -1 if two members of a cluster were
    compared. Sorted by cluster, then by position.
    """
    for name in sorted(duplicate_labels.manifest.files):
        if name.startswith(VERIFIED_PREFIX):
            yield pq.read_table(io.BytesIO(duplicate_labels.read(name)))
