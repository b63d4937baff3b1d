"""Sum the word counts of all parts of a corpus in bounded memory.

The counts of a part are a Parquet file of ``word`` (ascending by bytes) and ``count``. They are summed
one range of words at a time, so memory depends on the maximum number of distinct words and not on
the size of the corpus.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra.compute.arrays import U64
from infra.compute.jit import jit
from infra.dataset.dataset import PartRef
from infra.formats.arrow_text import Bytes, Offsets, utf8_buffers

FILE_SUFFIX = "words.parquet"
ROW_GROUP = 100_000
ROWS_IN_MEMORY = 1 << 24  # rows that are summed in one pass
SCHEMA = pa.schema([("word", pa.large_string()), ("count", pa.int64())])


@dataclass(frozen=True)
class WordCounts:
    """The word counts of a corpus.

    Attributes:
        table: ``word`` and ``count``, ascending by word.
        distinct: number of distinct words, including those left out.
        min_count: words that occur less often were left out; 1: none were.
        occurrences: total number of words.
        left_out: how many of these occurrences were of words left out.
    """

    table: pa.Table
    distinct: int
    min_count: int
    occurrences: int
    left_out: int


def to_parquet(table: pa.Table) -> bytes:
    """Return the counts of a part as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.cast(SCHEMA), sink, compression="zstd", row_group_size=ROW_GROUP, use_dictionary=False
    )
    return bytes(sink.getvalue())


def merge(parts: Sequence[PartRef], max_words: int) -> WordCounts:
    """Sum the counts of parts; see ``total``."""
    rows = []
    for part in parts:
        with part.open(FILE_SUFFIX) as file:
            rows.append(pq.read_metadata(file).num_rows)

    def read() -> Iterator[pa.Table]:
        for part in parts:
            with part.open(FILE_SUFFIX) as file:
                yield pq.read_table(file)

    return total(read, sum(rows), max_words)


def total(tables: Callable[[], Iterator[pa.Table]], rows: int, max_words: int) -> WordCounts:
    """Sum tables of counts, leaving out the rarest words if there are too many.

    Words that occur less than ``min_count`` times are left out, where ``min_count`` is the smallest
    number that leaves at most ``max_words`` words. The result depends neither on the order of the
    tables nor on how the text was divided between them. ``tables`` is called once per range of words,
    and yields all tables, which have ``rows`` rows together.
    """
    kept = SCHEMA.empty_table()
    distinct, min_count, occurrences = 0, 1, 0
    for low, high in _ranges(tables, rows):
        in_range = _sum(_slice_range(table, low, high) for table in tables())
        counts = in_range["count"].to_numpy()
        distinct += len(counts)
        occurrences += int(counts.sum())
        kept = pa.concat_tables([kept, in_range.filter(pa.array(counts >= min_count))])
        counts = kept["count"].to_numpy()
        if len(counts) > max_words:
            excess = len(counts) - max_words
            min_count = int(np.partition(counts, excess - 1)[excess - 1]) + 1
            kept = kept.filter(pa.array(counts >= min_count)).combine_chunks()
    left_out = occurrences - int(kept["count"].to_numpy().sum())
    return WordCounts(kept, distinct, min_count, occurrences, left_out)


def _sum(tables: Iterator[pa.Table]) -> pa.Table:
    """Sum tables into one row per word, ascending by word."""
    result, pending, rows = SCHEMA.empty_table(), [], 0
    for table in tables:
        pending.append(table)
        rows += table.num_rows
        if rows > ROWS_IN_MEMORY // 4:
            result, pending, rows = _sum_by_word([result, *pending]), [], 0
    return _sum_by_word([result, *pending]).sort_by("word")


def _sum_by_word(tables: Sequence[pa.Table]) -> pa.Table:
    table = pa.concat_tables(tables)
    summed = table.group_by("word", use_threads=False).aggregate([("count", "sum")])
    return summed.select(["word", "count_sum"]).rename_columns(SCHEMA.names).cast(SCHEMA)


def _ranges(tables: Callable[[], Iterator[pa.Table]], rows: int) -> list[tuple[int, int]]:
    """Divide the keys into ranges of about ``ROWS_IN_MEMORY`` rows, estimated from every n-th row."""
    n_ranges = -(-rows // ROWS_IN_MEMORY)
    if n_ranges <= 1:
        return [(0, 1 << 64)]
    step = max(rows >> 20, 1)
    sample = np.sort(np.concatenate([_keys(table.slice(0))[::step] for table in tables()]))
    bounds = np.unique(sample[np.arange(1, n_ranges) * len(sample) // n_ranges]).tolist()
    return list(zip([0, *bounds], [*bounds, 1 << 64], strict=True))


def _slice_range(table: pa.Table, low: int, high: int) -> pa.Table:
    """Return the rows of a table whose key is in ``[low, high)``."""
    if (low, high) == (0, 1 << 64):
        return table
    keys = _keys(table)
    first = np.searchsorted(keys, np.uint64(low))
    last = len(keys) if high == 1 << 64 else np.searchsorted(keys, np.uint64(high))
    return table.slice(int(first), int(last - first))


@jit
def _fill_keys(offsets: Offsets, data: Bytes, keys: U64) -> None:
    for row in range(len(keys)):
        key = np.uint64(0)
        for i in range(8):
            at = offsets[row] + i
            byte = np.uint64(data[at]) if at < offsets[row + 1] else np.uint64(0)
            key = (key << np.uint64(8)) | byte
        keys[row] = key


def _keys(table: pa.Table) -> U64:
    """Return the first eight bytes of each word as a big-endian integer: uint64[rows], ascending."""
    offsets, data = utf8_buffers(table["word"])
    keys = np.zeros(table.num_rows, np.uint64)
    _fill_keys(offsets, data, keys)
    return keys
