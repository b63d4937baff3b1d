"""How deduplication is partitioned: groups of parts on one side, partitions of rows on the other.

The numbers of partitions follow from the number of documents and from the memory that a worker may
fill. The results do not depend on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from infra.compute.arrays import F64, I64, U64
from infra.compute.shuffle import ShufflePlan
from infra.store.storage import Storage
from tasks.dedup.config import DedupConfig
from tasks.dedup.part_groups import PartGroup

# Bytes a worker holds per row while it works on it: the row, its sorted copy, indices, results.
DIGEST_ROW_BYTES, KEY_ROW_BYTES, PAIR_ROW_BYTES, EDGE_ROW_BYTES = 128, 96, 96, 192
# Bytes a worker holds per shingle: its hash, and copies of it in transit.
SHINGLE_BYTES = 32
# Expected upper bound; it only decides how pairs are partitioned.
MAX_PAIRS_PER_DOCUMENT = 32
DOCUMENTS_PER_FILE = 500_000
# Bytes of texts that one task reads; small enough for all workers to take part.
READ_BYTES = 1 << 25
# Members of a large cluster that all others are compared with, in each of two orders.
N_REFERENCES = 8
# Bytes per document and band that a part group sends, and as much again to sort them.
PART_GROUP_ROW_BYTES = 24
# 2**64 divided by the golden ratio: multiplying by it spreads small numbers over the high bits.
GOLDEN_RATIO = np.uint64(0x9E3779B97F4A7C15)


def log2_ceil(value: float) -> int:
    """Return the exponent of the smallest power of two that is not less than ``value``."""
    return max(0, int(np.ceil(np.log2(max(value, 1)))))


@dataclass(frozen=True)
class DedupPlan(ShufflePlan):
    """The partitioning of one deduplication; its document ranges are the part groups. Picklable.

    Attributes:
        config: the recipe's section.
        exact_bits: log2 of the number of partitions of text digests.
        key_bits: log2 of the number of partitions of each band's keys.
        n_pair_ranges: partitions of pairs, each a range of documents.
        batch_bits: log2 of the number of verification batches.
        n_readers: tasks that read texts.
        oversized_bits: log2 of the number of partitions of oversized buckets.
    """

    config: DedupConfig
    exact_bits: int
    key_bits: int
    n_pair_ranges: int
    batch_bits: int = 0
    n_readers: int = 0
    oversized_bits: int = 0

    @staticmethod
    def from_part_groups(
        work: Storage, config: DedupConfig, part_groups: Sequence[PartGroup]
    ) -> "DedupPlan":
        """Plan the partitions for some part groups."""
        documents = sum(group.rows for group in part_groups)
        memory = config.partition_bytes
        return DedupPlan(
            work,
            tuple(group.start for group in part_groups),
            documents,
            config,
            log2_ceil(documents * DIGEST_ROW_BYTES / memory),
            log2_ceil(documents * KEY_ROW_BYTES / memory),
            1 << log2_ceil(documents * MAX_PAIRS_PER_DOCUMENT * PAIR_ROW_BYTES / memory),
        )

    @staticmethod
    def part_group_rows(config: DedupConfig) -> int:
        """Return the number of documents that a part group should have."""
        bands, _ = config.banding
        return max(1, config.partition_bytes // (2 * PART_GROUP_ROW_BYTES * bands))

    def with_oversized(self, n_members: int, row_bytes: int) -> "DedupPlan":
        """Add partitions for the members of oversized buckets; one bucket may still exceed the memory."""
        bits = log2_ceil(n_members * row_bytes / self.config.partition_bytes)
        return replace(self, oversized_bits=bits)

    def max_intra_cluster_pairs(self, sizes: I64) -> int:
        """Return an upper bound on the pairs compared within components of these sizes."""
        config = self.config
        large = max((config.exhaustive_cluster_size - 1) / 2, 2 * N_REFERENCES + config.neighbors)
        each = np.where(sizes <= config.exhaustive_cluster_size, (sizes - 1) / 2, large)
        return int((sizes * each).sum())

    def with_batches(self, n_shingles: int, n_pairs: int, n_readers: int) -> "DedupPlan":
        """Add verification batches whose shingle sets and pairs fit into memory."""
        bits = log2_ceil(
            (SHINGLE_BYTES * n_shingles + EDGE_ROW_BYTES * n_pairs) / self.config.partition_bytes
        )
        return replace(self, batch_bits=bits, n_readers=n_readers)

    def text_reads(
        self, shingles: Sequence[Sequence[int]], text_bytes: Sequence[Sequence[int]]
    ) -> list[tuple[int, int, int]]:
        """Split the parts of each group into tasks that read texts and hold their shingle sets.

        Args:
            shingles: by group and part, the shingles of its documents in components.
            text_bytes: by group and part, of all its texts.

        Returns:
            (group, first part, part after the last) of each task.
        """
        tasks = []
        max_shingles = self.config.partition_bytes // SHINGLE_BYTES
        for group, (counts, sizes) in enumerate(zip(shingles, text_bytes, strict=True)):
            first, task_shingles, task_bytes = 0, 0, 0
            for part, (count, size) in enumerate(zip(counts, sizes, strict=True)):
                read = size if count else 0  # only texts of documents in components are read
                full = task_shingles + count > max_shingles or task_bytes + read > READ_BYTES
                if task_shingles and full:
                    tasks.append((group, first, part))
                    first, task_shingles, task_bytes = part, 0, 0
                task_shingles += count
                task_bytes += read
            tasks.append((group, first, len(counts)))
        return tasks

    @property
    def bands(self) -> int:
        """Bands of a signature."""
        return self.config.banding[0]

    @property
    def key_partitions(self) -> range:
        """The partitions of all bands' keys: ``band << key_bits | high bits of the key``."""
        return range(self.bands << self.key_bits)

    @property
    def exact_partitions(self) -> range:
        """The partitions of text digests."""
        return range(1 << self.exact_bits)

    @property
    def oversized_partitions(self) -> range:
        """The partitions of oversized buckets."""
        return range(1 << self.oversized_bits)

    @property
    def batches(self) -> range:
        """The verification batches; each holds whole components."""
        return range(1 << self.batch_bits)

    @property
    def n_files(self) -> int:
        """Files of pairs that the data set holds; must not depend on memory."""
        return 1 << log2_ceil(self.n_documents / DOCUMENTS_PER_FILE)

    def pair_range_of(self, documents: U64) -> I64:
        """Return the pair range of each document."""
        return self._divide(documents, self.n_pair_ranges)

    def file_of(self, documents: U64) -> I64:
        """Return the number of the file that holds the pairs of each document."""
        return self._divide(documents, self.n_files)

    def _divide(self, documents: U64, n_slices: int) -> I64:
        length = np.uint64(max(1, -(-self.n_documents // n_slices)))
        return (documents // length).astype(np.int64)

    def exact_partition_of(self, high: U64) -> I64:
        """Return the partition of each digest, by its first half."""
        return high_bits(high, self.exact_bits)

    def batch_of(self, roots: U64) -> I64:
        """Return the verification batch of each component, by the document that names it."""
        return high_bits(roots * GOLDEN_RATIO, self.batch_bits)


def high_bits(values: U64, bits: int) -> I64:
    """Return the highest bits of each value as a number."""
    if bits == 0:
        return np.zeros(len(values), np.int64)
    return (values >> np.uint64(64 - bits)).astype(np.int64)


def words_to_floats(words: U64) -> F64:
    """View words as the floating-point numbers they carry."""
    return np.ascontiguousarray(words).view(np.float64)


def floats_to_words(values: F64) -> U64:
    """View floating-point numbers as words."""
    return np.ascontiguousarray(values, np.float64).view(np.uint64)


def duplicate_indices(keys: U64) -> I64:
    """Return the indices of values that occur more than once, by ascending value.

    Only one plain column is sorted; unique values, which are the majority, are not touched again.
    """
    order = np.argsort(keys)
    ordered = keys[order]
    same = ordered[1:] == ordered[:-1]
    shared = np.zeros(len(keys), bool)
    shared[1:] = same
    shared[:-1] |= same
    return order[shared]


def find_equal_runs(*columns: U64) -> tuple[I64, I64]:
    """Return the start and the length of each run of equal rows in sorted columns."""
    n = len(columns[0])
    if n == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    new = np.zeros(n, bool)
    new[0] = True
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
    first = np.flatnonzero(new)
    return first, np.diff(np.append(first, n))
