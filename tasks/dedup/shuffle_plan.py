"""How the join is cut: blocks of parts on one side, partitions on the other, exchanges between.

Numbers of partitions follow from the number of documents and from the memory a worker may fill;
nothing that is found depends on them. What each step needs of the one before lies in files of the
work folder, so a run that was cut off goes on where it stood.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from infra.compute.shuffle import Shuffle, as_bytes
from infra.store.storage import Storage
from tasks.dedup.config import DedupConfig
from tasks.dedup.part_groups import PartGroup

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

# Bytes a worker holds per row while it works on it: the row, its sorted copy, indices, results.
DIGEST_ROW_BYTES, KEY_ROW_BYTES, PAIR_ROW_BYTES, EDGE_ROW_BYTES = 128, 96, 96, 192
SHINGLE_BYTES = 32  # bytes a worker holds per shingle: its hash, its copies on the way
MAX_PAIRS_PER_DOCUMENT = 32  # expected at most; decides how pairs are cut, nothing else
DOCUMENTS_PER_FILE = 500_000
READ_BYTES = 1 << 25  # of texts that a task reads, so that all workers read
N_REFERENCES = (
    8  # members of a large cluster that all others are compared with, in each of two orders
)
PART_GROUP_ROW_BYTES = (
    24  # bytes per document and band that a block sends, and as much to order them
)


def log2_ceil(value: float) -> int:
    """The exponent of the least power of two that is not smaller."""
    return max(0, int(np.ceil(np.log2(max(value, 1)))))


@dataclass(frozen=True)
class ShufflePlan:
    """The cut of one join; picklable.

    Attributes:
        work: the folder of everything that passes between steps.
        config: the recipe's section.
        n_documents: number of all documents.
        starts: first document of each block.
        exact_bits, key_bits, batch_bits, oversized_bits: the number of partitions of digests, of each
            band's keys, of components, and of crowded buckets, as exponents of two.
        n_ranges: partitions of pairs, each a range of documents.
        n_readers: tasks that read texts.
    """

    work: Storage
    config: DedupConfig
    n_documents: int
    starts: tuple[int, ...]
    exact_bits: int
    key_bits: int
    n_ranges: int
    batch_bits: int = 0
    n_readers: int = 0
    oversized_bits: int = 0

    @staticmethod
    def from_part_groups(
        work: Storage, config: DedupConfig, part_groups: Sequence[PartGroup]
    ) -> "ShufflePlan":
        """The cut for these blocks."""
        documents = sum(block.rows for block in part_groups)
        room = config.partition_bytes
        return ShufflePlan(
            work,
            config,
            documents,
            tuple(block.start for block in part_groups),
            log2_ceil(documents * DIGEST_ROW_BYTES / room),
            log2_ceil(documents * KEY_ROW_BYTES / room),
            1 << log2_ceil(documents * MAX_PAIRS_PER_DOCUMENT * PAIR_ROW_BYTES / room),
        )

    @staticmethod
    def part_group_rows(config: DedupConfig) -> int:
        """Documents of a block."""
        bands, _ = config.banding
        return max(1, config.partition_bytes // (2 * PART_GROUP_ROW_BYTES * bands))

    def with_oversized(self, n_members: int, row_bytes: int) -> "ShufflePlan":
        """With crowded buckets cut so that those of a partition fit, if no single one is larger.

        Args:
            n_members: of all crowded buckets.
            row_bytes: bytes a worker holds per member.
        """
        bits = log2_ceil(n_members * row_bytes / self.config.partition_bytes)
        return replace(self, oversized_bits=bits)

    def max_intra_cluster_pairs(self, sizes: I64) -> int:
        """The most pairs that are compared within the clusters of components of these sizes."""
        config = self.config
        large = max((config.exhaustive_cluster_size - 1) / 2, 2 * N_REFERENCES + config.neighbors)
        each = np.where(sizes <= config.exhaustive_cluster_size, (sizes - 1) / 2, large)
        return int((sizes * each).sum())

    def with_batches(self, n_shingles: int, n_pairs: int, n_readers: int) -> "ShufflePlan":
        """With components cut so that the shingle sets and the pairs of a bin fit.

        Args:
            n_shingles: of all their members.
            n_pairs: nominated, and compared within clusters besides.
            n_readers: tasks that read texts.
        """
        bits = log2_ceil(
            (SHINGLE_BYTES * n_shingles + EDGE_ROW_BYTES * n_pairs) / self.config.partition_bytes
        )
        return replace(self, batch_bits=bits, n_readers=n_readers)

    def text_reads(
        self, weights: Sequence[Sequence[int]], sizes: Sequence[Sequence[int]]
    ) -> list[tuple[int, int, int]]:
        """Cut the pieces of each block so that the shingle sets of a task fit, and none is long.

        Args:
            weights: by block and piece, the shingles of the documents in components.
            sizes: likewise, the bytes of all texts.

        Returns:
            (block, first piece, piece after the last) of each task.
        """
        out = []
        room = self.config.partition_bytes // SHINGLE_BYTES
        for block, (pieces, texts) in enumerate(zip(weights, sizes, strict=True)):
            first, held, read = 0, 0, 0
            for piece, (weight, size) in enumerate(zip(pieces, texts, strict=True)):
                more = size if weight else 0  # a text is read if its document is compared
                if held and (held + weight > room or read + more > READ_BYTES):
                    out.append((block, first, piece))
                    first, held, read = piece, 0, 0
                held += weight
                read += more
            out.append((block, first, len(pieces)))
        return out

    @property
    def part_groups(self) -> range:
        """The numbers of the blocks."""
        return range(len(self.starts))

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
        """The partitions of digests."""
        return range(1 << self.exact_bits)

    @property
    def oversized_partitions(self) -> range:
        """The partitions of crowded buckets."""
        return range(1 << self.oversized_bits)

    @property
    def batches(self) -> range:
        """The partitions of components."""
        return range(1 << self.batch_bits)

    def part_group_index(self, documents: U64) -> I64:
        """The block of each document."""
        starts = np.array(self.starts, np.uint64)
        found: I64 = np.searchsorted(starts, documents, side="right") - 1
        return found

    @property
    def n_files(self) -> int:
        """Files of pairs that the data set holds; this one must not depend on memory."""
        return 1 << log2_ceil(self.n_documents / DOCUMENTS_PER_FILE)

    def range_index(self, documents: U64) -> I64:
        """The range of pairs each document belongs to."""
        return self._range_index(documents, self.n_ranges)

    def file_index(self, documents: U64) -> I64:
        """The file that keeps the pairs of each document."""
        return self._range_index(documents, self.n_files)

    def _range_index(self, documents: U64, slices: int) -> I64:
        length = np.uint64(max(1, -(-self.n_documents // slices)))
        return (documents // length).astype(np.int64)

    def exact_index(self, high: U64) -> I64:
        """The partition of each digest, by its first half."""
        return high_bits(high, self.exact_bits)

    def batch_index(self, roots: U64) -> I64:
        """The bin of each component; roots are small numbers, so they are mixed first."""
        return high_bits(roots * np.uint64(0x9E3779B97F4A7C15), self.batch_bits)

    def shuffle(self, name: str, partitions: int, width: int) -> Shuffle:
        """The exchange of this name."""
        return Shuffle(self.work.subdir(name), partitions, width)

    def shuffle_to_part_groups(self, name: str, width: int) -> Shuffle:
        """An exchange whose receivers are the blocks."""
        return self.shuffle(name, len(self.starts), width)

    def save(self, name: str, rows: U64) -> None:
        """Keep rows for a later step of the same partition."""
        with self.work.create(name, durable=False) as file:
            file.write(as_bytes(rows))

    def load(self, name: str, width: int) -> U64:
        """What was saved: uint64[n, width]."""
        return np.frombuffer(self.work.read(name), "<u8").reshape(-1, width)


def high_bits(values: U64, bits: int) -> I64:
    """The highest bits of each value, as a number."""
    if bits == 0:
        return np.zeros(len(values), np.int64)
    return (values >> np.uint64(64 - bits)).astype(np.int64)


def words_to_floats(words: U64) -> npt.NDArray[np.float64]:
    """Words that carry floating-point numbers."""
    return np.ascontiguousarray(words).view(np.float64)


def floats_to_words(values: npt.NDArray[np.float64]) -> U64:
    """Floating-point numbers as words."""
    return np.ascontiguousarray(values, np.float64).view(np.uint64)


def duplicate_indices(keys: U64) -> I64:
    """Indices of the values that occur more than once, in ascending order of the values.

    One sort of a plain column finds them; what is unique, most of it, is never touched again.
    """
    order = np.argsort(keys)
    ordered = keys[order]
    same = ordered[1:] == ordered[:-1]
    shared = np.zeros(len(keys), bool)
    shared[1:] = same
    shared[:-1] |= same
    return order[shared]


def find_equal_runs(*columns: U64) -> tuple[I64, I64]:
    """Start and length of each run of equal rows in sorted columns."""
    n = len(columns[0])
    if n == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    new = np.zeros(n, bool)
    new[0] = True
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
    first = np.flatnonzero(new)
    return first, np.diff(np.append(first, n))
