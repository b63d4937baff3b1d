"""How the selection among documents is partitioned."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.compute.arrays import I64
from infra.compute.shuffle import Shuffle, ShufflePlan

# Hexadecimal digits of a cluster's name that choose its partition.
PREFIX_DIGITS = 4


@dataclass(frozen=True)
class SelectionPlan(ShufflePlan):
    """The shuffles of the selection; its document ranges are the parts. Picklable.

    Attributes:
        n_partitions: partitions of clusters; a power of two, at most 16**`PREFIX_DIGITS`.
        prefer: the recipe's order of preference.
        n_url_partitions: partitions of URLs; 0 if several documents may share one.
    """

    n_partitions: int
    prefer: tuple[str, ...]
    n_url_partitions: int = 0

    @property
    def candidates(self) -> Shuffle:
        """From parts to partitions of clusters: documents that have duplicates."""
        return self.shuffle("candidates", self.n_partitions, 1)

    @property
    def pairs(self) -> Shuffle:
        """From files of pairs to partitions of clusters: verified pairs."""
        return self.shuffle("pairs", self.n_partitions, 1)

    @property
    def survivors(self) -> Shuffle:
        """From partitions of clusters to parts: documents that others are dropped for."""
        return self.shuffle_to_ranges("survivors", 1)

    @property
    def dropped(self) -> Shuffle:
        """From partitions of clusters to parts: dropped documents."""
        return self.shuffle_to_ranges("dropped", 1)

    @property
    def url_candidates(self) -> Shuffle:
        """From parts to partitions of URLs: documents with a web URL."""
        return self.shuffle("url_candidates", self.n_url_partitions, 1)

    @property
    def url_survivors(self) -> Shuffle:
        """From partitions of URLs to parts: the versions that others are dropped for."""
        return self.shuffle_to_ranges("url_survivors", 1)

    @property
    def url_dropped(self) -> Shuffle:
        """From partitions of URLs to parts: dropped versions."""
        return self.shuffle_to_ranges("url_dropped", 1)

    def partition_of(self, clusters: pa.ChunkedArray) -> I64:
        """Return the partition of each cluster."""
        prefixes = pc.dictionary_encode(
            pc.utf8_slice_codeunits(clusters, 0, PREFIX_DIGITS)
        ).combine_chunks()
        if not len(prefixes):
            return np.zeros(0, np.int64)
        values = np.array([int(prefix, 16) for prefix in prefixes.dictionary.to_pylist()], np.int64)
        partitions: I64 = values[prefixes.indices.to_numpy()] % self.n_partitions
        return partitions
