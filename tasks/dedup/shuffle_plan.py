"""How the join is cut: blocks of parts on one side, partitions on the other, exchanges between.

Numbers of partitions follow from the number of documents and from the memory a worker may fill;
nothing that is found depends on them. What each step needs of the one before lies in files of the
work folder, so a run that was cut off goes on where it stood.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from infra.compute.shuffle import Exchange, raw
from infra.store.storage import Storage
from tasks.dedup.config import DedupConfig
from tasks.dedup.part_groups import Block

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

# Bytes a worker holds per row while it works on it: the row, its sorted copy, indices, results.
DIGEST_ROW, KEY_ROW, PAIR_ROW, EDGE_ROW = 128, 96, 96, 192
SHINGLE = 32  # bytes a worker holds per shingle: its hash, its copies on the way
PAIRS_PER_DOCUMENT = 32  # expected at most; decides how pairs are cut, nothing else
DOCUMENTS_PER_FILE = 500_000
READ_BYTES = 1 << 25  # of texts that a task reads, so that all workers read
HUBS = 8  # members of a large cluster that all others are compared with, in each of two orders
BLOCK_ROW = 24  # bytes per document and band that a block sends, and as much to order them


def power(parts: float) -> int:
    """The exponent of the least power of two that is not smaller."""
    return max(0, int(np.ceil(np.log2(max(parts, 1)))))


@dataclass(frozen=True)
class Layout:
    """The cut of one join; picklable.

    Attributes:
        work: the folder of everything that passes between steps.
        config: the recipe's section.
        documents: number of all documents.
        starts: first document of each block.
        exact_bits, key_bits, bin_bits, crowded_bits: the number of partitions of digests, of each
            band's keys, of components, and of crowded buckets, as exponents of two.
        ranges: partitions of pairs, each a range of documents.
        readers: tasks that read texts.
    """

    work: Storage
    config: DedupConfig
    documents: int
    starts: tuple[int, ...]
    exact_bits: int
    key_bits: int
    ranges: int
    bin_bits: int = 0
    readers: int = 0
    crowded_bits: int = 0

    @staticmethod
    def of(work: Storage, config: DedupConfig, blocks: Sequence[Block]) -> "Layout":
        """The cut for these blocks."""
        documents = sum(block.rows for block in blocks)
        room = config.partition_bytes
        return Layout(
            work,
            config,
            documents,
            tuple(block.start for block in blocks),
            power(documents * DIGEST_ROW / room),
            power(documents * KEY_ROW / room),
            1 << power(documents * PAIRS_PER_DOCUMENT * PAIR_ROW / room),
        )

    @staticmethod
    def block_rows(config: DedupConfig) -> int:
        """Documents of a block."""
        bands, _ = config.banding
        return max(1, config.partition_bytes // (2 * BLOCK_ROW * bands))

    def with_crowded(self, members: int, row: int) -> "Layout":
        """With crowded buckets cut so that those of a partition fit, if no single one is larger.

        Args:
            members: of all crowded buckets.
            row: bytes a worker holds per member.
        """
        bits = power(members * row / self.config.partition_bytes)
        return replace(self, crowded_bits=bits)

    def most_within(self, sizes: I64) -> int:
        """The most pairs that are compared within the clusters of components of these sizes."""
        config = self.config
        large = max((config.cluster_pairs - 1) / 2, 2 * HUBS + config.neighbours)
        each = np.where(sizes <= config.cluster_pairs, (sizes - 1) / 2, large)
        return int((sizes * each).sum())

    def with_bins(self, shingles: int, pairs: int, readers: int) -> "Layout":
        """With components cut so that the shingle sets and the pairs of a bin fit.

        Args:
            shingles: of all their members.
            pairs: nominated, and compared within clusters besides.
            readers: tasks that read texts.
        """
        bits = power((SHINGLE * shingles + EDGE_ROW * pairs) / self.config.partition_bytes)
        return replace(self, bin_bits=bits, readers=readers)

    def readings(
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
        room = self.config.partition_bytes // SHINGLE
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
    def blocks(self) -> range:
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
    def crowded_partitions(self) -> range:
        """The partitions of crowded buckets."""
        return range(1 << self.crowded_bits)

    @property
    def bins(self) -> range:
        """The partitions of components."""
        return range(1 << self.bin_bits)

    def block_of(self, documents: U64) -> I64:
        """The block of each document."""
        starts = np.array(self.starts, np.uint64)
        found: I64 = np.searchsorted(starts, documents, side="right") - 1
        return found

    @property
    def files(self) -> int:
        """Files of pairs that the data set holds; this one must not depend on memory."""
        return 1 << power(self.documents / DOCUMENTS_PER_FILE)

    def range_of(self, documents: U64) -> I64:
        """The range of pairs each document belongs to."""
        return self._slice(documents, self.ranges)

    def file_of(self, documents: U64) -> I64:
        """The file that keeps the pairs of each document."""
        return self._slice(documents, self.files)

    def _slice(self, documents: U64, slices: int) -> I64:
        length = np.uint64(max(1, -(-self.documents // slices)))
        return (documents // length).astype(np.int64)

    def exact_of(self, high: U64) -> I64:
        """The partition of each digest, by its first half."""
        return high_bits(high, self.exact_bits)

    def bin_of(self, roots: U64) -> I64:
        """The bin of each component; roots are small numbers, so they are mixed first."""
        return high_bits(roots * np.uint64(0x9E3779B97F4A7C15), self.bin_bits)

    def exchange(self, name: str, partitions: int, width: int) -> Exchange:
        """The exchange of this name."""
        return Exchange(self.work.at(name), partitions, width)

    def to_blocks(self, name: str, width: int) -> Exchange:
        """An exchange whose receivers are the blocks."""
        return self.exchange(name, len(self.starts), width)

    def save(self, name: str, rows: U64) -> None:
        """Keep rows for a later step of the same partition."""
        with self.work.create(name, durable=False) as file:
            file.write(raw(rows))

    def load(self, name: str, width: int) -> U64:
        """What was saved: uint64[n, width]."""
        return np.frombuffer(self.work.read(name), "<u8").reshape(-1, width)


def high_bits(values: U64, bits: int) -> I64:
    """The highest bits of each value, as a number."""
    if bits == 0:
        return np.zeros(len(values), np.int64)
    return (values >> np.uint64(64 - bits)).astype(np.int64)


def floats(words: U64) -> npt.NDArray[np.float64]:
    """Words that carry floating-point numbers."""
    return np.ascontiguousarray(words).view(np.float64)


def words(values: npt.NDArray[np.float64]) -> U64:
    """Floating-point numbers as words."""
    return np.ascontiguousarray(values, np.float64).view(np.uint64)


def repeated(keys: U64) -> I64:
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


def runs(*columns: U64) -> tuple[I64, I64]:
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
