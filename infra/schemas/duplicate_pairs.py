"""The pairs of copies that deduplication verified, as its data set holds them."""

import io
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from infra.dataset.dataset import Dataset

VERIFIED_PREFIX = "verified_pairs-"  # and a number: files of verified pairs
REJECTED_PREFIX = "rejected_pairs-"  # files of pairs that were compared and failed


def iter_verified_pairs(duplicate_labels: Dataset) -> Iterator[pa.Table]:
    """The verified pairs, file by file.

    Columns: ``cluster``; ``part_a``, ``row_a``, ``part_b``, ``row_b``, places among all parts of the
    documents in the order of the recipe, of the first document of each exact group; ``similarity``;
    ``band``, the first that nominated the pair, -1 if it was compared as two members of a cluster.
    Sorted by cluster, then by place.
    """
    for name in sorted(duplicate_labels.manifest.files):
        if name.startswith(VERIFIED_PREFIX):
            yield pq.read_table(io.BytesIO(duplicate_labels.read(name)))
