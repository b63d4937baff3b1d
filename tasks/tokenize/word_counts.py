"""How often each word of a corpus occurs: counted by part, summed in bounded memory.

The counts of a part are a Parquet file of ``word`` (ascending by bytes) and ``count``. The sum is
made range by range of words, so that what is in memory depends on the bound on different words and
not on the corpus.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from infra.compute.jit import jit
from infra.dataset.dataset import PartRef
from infra.formats.arrow_text import Bytes, Offsets, utf8_buffers

FILE_SUFFIX = "words.parquet"
ROW_GROUP = 100_000
ROWS_IN_MEMORY = 1 << 24  # rows that are summed at once
SCHEMA = pa.schema([("word", pa.large_string()), ("count", pa.int64())])

Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class WordCounts:
    """The words of a corpus.

    Attributes:
        table: ``word`` and ``count``, ascending by word.
        distinct: different words that there are, those left out included.
        min_count: words that occur less often were left out; 1: none was.
        occurrences: of all words.
        left_out: occurrences of the words that were left out.
    """

    table: pa.Table
    distinct: int
    min_count: int
    occurrences: int
    left_out: int


def to_parquet(table: pa.Table) -> bytes:
    """The counts of a part as a file."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.cast(SCHEMA), sink, compression="zstd", row_group_size=ROW_GROUP, use_dictionary=False
    )
    return bytes(sink.getvalue())


def merge(parts: Sequence[PartRef], max_words: int) -> WordCounts:
    """The sum of the counts of some parts; see ``total``."""
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
    """The sum of some tables of counts, with the rarest words left out if there are too many.

    The rule: words that occur less than ``least`` times are left out, with the smallest ``least``
    that leaves ``max_words`` words or fewer. The result does not depend on the tables' order, nor on
    how text was divided between them.

    Args:
        tables: called once for each range of words; yields the tables.
        rows: of all tables together.
        max_words: words at most.
    """
    kept = SCHEMA.empty_table()
    distinct, least, occurrences = 0, 1, 0
    for low, high in _ranges(tables, rows):
        here = _sum(_slice_range(table, low, high) for table in tables())
        counts = here["count"].to_numpy()
        distinct += len(counts)
        occurrences += int(counts.sum())
        kept = pa.concat_tables([kept, here.filter(pa.array(counts >= least))])
        counts = kept["count"].to_numpy()
        if len(counts) > max_words:
            least = (
                int(np.partition(counts, len(counts) - max_words - 1)[len(counts) - max_words - 1])
                + 1
            )
            kept = kept.filter(pa.array(counts >= least)).combine_chunks()
    left = occurrences - int(kept["count"].to_numpy().sum())
    return WordCounts(kept, distinct, least, occurrences, left)


def _sum(tables: Iterator[pa.Table]) -> pa.Table:
    """One row for each word, ascending."""
    result, waiting, rows = SCHEMA.empty_table(), [], 0
    for table in tables:
        waiting.append(table)
        rows += table.num_rows
        if rows > ROWS_IN_MEMORY // 4:
            result, waiting, rows = _sum_by_word([result, *waiting]), [], 0
    return _sum_by_word([result, *waiting]).sort_by("word")


def _sum_by_word(tables: Sequence[pa.Table]) -> pa.Table:
    table = pa.concat_tables(tables)
    summed = table.group_by("word", use_threads=False).aggregate([("count", "sum")])
    return summed.select(["word", "count_sum"]).rename_columns(SCHEMA.names).cast(SCHEMA)


def _ranges(tables: Callable[[], Iterator[pa.Table]], rows: int) -> list[tuple[int, int]]:
    """Ranges of ``_keys`` with about ``ROWS_IN_MEMORY`` rows each: by the keys of every n-th row."""
    number = -(-rows // ROWS_IN_MEMORY)
    if number <= 1:
        return [(0, 1 << 64)]
    step = max(rows >> 20, 1)
    some = np.sort(np.concatenate([_keys(table.slice(0))[::step] for table in tables()]))
    bounds = np.unique(some[np.arange(1, number) * len(some) // number]).tolist()
    return list(zip([0, *bounds], [*bounds, 1 << 64], strict=True))


def _slice_range(table: pa.Table, low: int, high: int) -> pa.Table:
    """The rows of a table whose key is in ``[low, high)``."""
    if (low, high) == (0, 1 << 64):
        return table
    keys = _keys(table)
    first = np.searchsorted(keys, np.uint64(low))
    last = len(keys) if high == 1 << 64 else np.searchsorted(keys, np.uint64(high))
    return table.slice(int(first), int(last - first))


@jit
def _fill_keys(offsets: Offsets, data: Bytes, keys: Keys) -> None:
    for row in range(len(keys)):
        key = np.uint64(0)
        for i in range(8):
            at = offsets[row] + i
            byte = np.uint64(data[at]) if at < offsets[row + 1] else np.uint64(0)
            key = (key << np.uint64(8)) | byte
        keys[row] = key


def _keys(table: pa.Table) -> Keys:
    """uint64[rows]: the first eight bytes of each word, which ascend as the words do."""
    offsets, data = utf8_buffers(table["word"])
    keys = np.zeros(table.num_rows, np.uint64)
    _fill_keys(offsets, data, keys)
    return keys
