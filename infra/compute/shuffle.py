"""A shuffle through files: mappers write rows, each partition reads its range of every file.

Each mapper writes one file, its rows ordered by partition; whoever reads a partition reads its
range of every file. So a task reads files and writes files: a lost worker costs its task, the
scheduler holds no rows, and memory is one mapper's or one partition's rows, whatever the total.

Rows are ``width`` unsigned 64-bit words; numbers of other types travel as views.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from infra.compute.arrays import I64, U64
from infra.compute.jit import jit
from infra.store.storage import Storage, StorageError

WORD_BYTES = 8


@dataclass(frozen=True)
class Shuffle:
    """One shuffle. Picklable.

    Attributes:
        storage: a folder of its own.
        n_partitions: number of partitions.
        width: words per row.
    """

    storage: Storage
    n_partitions: int
    width: int

    def write_rows(self, mapper: int, partition: I64, rows: U64) -> None:
        """Write the rows of a mapper; rows of one partition keep their order.

        Args:
            mapper: its number; a second call replaces its rows.
            partition: int64[n], the partition of each row.
            rows: uint64[n, width].
        """
        ordered, bounds = group_by_partition(partition, rows, self.n_partitions)
        self.write_sorted(mapper, [ordered.reshape(-1)], bounds * self.width)

    def write_sorted(self, mapper: int, runs: Sequence[U64], bounds: I64) -> None:
        """Write the words of a mapper that are already ordered by partition.

        Args:
            mapper: its number.
            runs: arrays of words; concatenated they are the body of the file.
            bounds: int64[n_partitions + 1], the word at which each partition starts, and the end.
        """
        with self.storage.create(_file_name(mapper), durable=False) as file:
            file.write(bounds.astype("<i8").tobytes())
            for run in runs:
                file.write(as_bytes(run))

    def write_table(self, mapper: int, partition: I64, table: pa.Table) -> None:
        """Write a table of n rows, whose partitions are int64[n]; ``width`` must be 1."""
        order = np.argsort(partition, kind="stable")
        counts = np.bincount(partition, minlength=self.n_partitions)
        table = table.take(order).combine_chunks()
        runs: list[U64] = []
        bounds = np.zeros(self.n_partitions + 1, np.int64)
        start = 0
        for number, count in enumerate(counts.tolist()):
            if count:
                runs.append(_pack_table(table.slice(start, count)))
            bounds[number + 1] = bounds[number] + (len(runs[-1]) if count else 0)
            start += count
        self.write_sorted(mapper, runs, bounds)

    def read_table_partition(
        self, partition: int, mappers: Sequence[int], schema: pa.Schema
    ) -> pa.Table:
        """Read the rows that `write_table` wrote for a partition, in the order of the mappers."""
        tables = [
            pa.ipc.open_stream(words).read_all() for words in self.iter_slices(partition, mappers)
        ]
        return pa.concat_tables([schema.empty_table(), *tables]).combine_chunks()

    def iter_slices(self, partition: int, mappers: Sequence[int]) -> Iterator[U64]:
        """Yield what each mapper wrote for a partition: uint64[words]; nothing if it is empty.

        Raises:
            StorageError: if a file is missing or shorter than its header says.
        """
        header = WORD_BYTES * (self.n_partitions + 1)
        for mapper in mappers:
            name = _file_name(mapper)
            try:
                raw = self.storage.read(name, WORD_BYTES * partition, WORD_BYTES * (partition + 2))
                start, end = np.frombuffer(raw, "<i8")
                if start == end:
                    continue
                raw = self.storage.read(
                    name, header + WORD_BYTES * int(start), header + WORD_BYTES * int(end)
                )
            except (FileNotFoundError, ValueError) as error:
                raise StorageError(
                    f"{self.storage.url}/{name}: cannot be read ({error})"
                ) from error
            if len(raw) != WORD_BYTES * (end - start):
                raise StorageError(
                    f"{self.storage.url}/{name}: truncated; remove {self.storage.url} and run again"
                )
            yield np.frombuffer(raw, "<u8")

    def read_partition(self, partition: int, mappers: Sequence[int]) -> U64:
        """Read all rows of a partition, in the order of the mappers: uint64[n, width]."""
        slices = list(self.iter_slices(partition, mappers))
        words = np.concatenate(slices) if slices else np.zeros(0, np.uint64)
        return words.reshape(-1, self.width)


@dataclass(frozen=True)
class ShufflePlan:
    """The work folder of a stage: its shuffles and the rows it saves. Picklable.

    Documents are numbered through all parts. ``starts`` cuts them into consecutive *ranges*, each
    worked on by one task: a part, or a group of parts.

    Attributes:
        work: the work folder.
        starts: number of the first document of each range.
        n_documents: number of all documents.
    """

    work: Storage
    starts: tuple[int, ...]
    n_documents: int

    @property
    def ranges(self) -> range:
        """The numbers of the ranges."""
        return range(len(self.starts))

    def range_of(self, documents: U64) -> I64:
        """Return the range of each document."""
        ranges: I64 = np.searchsorted(np.array(self.starts, np.uint64), documents, "right") - 1
        return ranges

    def shuffle(self, name: str, n_partitions: int, width: int) -> Shuffle:
        """Return the shuffle of this name."""
        return Shuffle(self.work.subdir(*name.split("/")), n_partitions, width)

    def shuffle_to_ranges(self, name: str, width: int) -> Shuffle:
        """Return a shuffle whose partitions are the ranges."""
        return self.shuffle(name, len(self.starts), width)

    def save(self, name: str, rows: U64) -> None:
        """Save rows for a later phase of the same partition."""
        with self.work.create(name, durable=False) as file:
            file.write(as_bytes(rows))

    def load(self, name: str, width: int) -> U64:
        """Load what `save` wrote: uint64[n, width]."""
        return np.frombuffer(self.work.read(name), "<u8").reshape(-1, width)


@jit
def group_by_partition(partition: I64, rows: U64, n_partitions: int) -> tuple[U64, I64]:
    """Group rows by partition, keeping their order within each.

    Returns:
        The rows, uint64[n, width]; and where each partition starts, int64[n_partitions + 1].
    """
    bounds = np.zeros(n_partitions + 1, np.int64)
    for i in range(len(partition)):
        bounds[partition[i] + 1] += 1
    for p in range(n_partitions):
        bounds[p + 1] += bounds[p]
    following = bounds[:-1].copy()
    out = np.empty_like(rows)
    for i in range(len(partition)):
        index = following[partition[i]]
        following[partition[i]] += 1
        for k in range(rows.shape[1]):
            out[index, k] = rows[i, k]
    return out, bounds


def _pack_table(table: pa.Table) -> U64:
    """Serialize a table as whole words; an Arrow stream knows its own end."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data = bytes(sink.getvalue())
    return np.frombuffer(data + b"\0" * (-len(data) % WORD_BYTES), np.uint64)


def as_bytes(words: U64) -> memoryview:
    """Return the bytes of an array of words, without a copy if it is contiguous."""
    return np.ascontiguousarray(words).reshape(-1).view(np.uint8).data


def _file_name(mapper: int) -> str:
    return f"{mapper:06d}"
