"""Rows sent from many senders to many partitions, through files in the store.

What a shuffle is elsewhere, for narrow rows: each sender writes one file, its rows ordered by
partition; a receiver reads its own range of every file. A task is then files in, files out: a lost
worker costs its task, nothing is held in the scheduler, and memory is one sender's or one
partition's rows, whatever the size of the whole.

Rows are ``width`` unsigned 64-bit words; numbers of other kinds travel as views.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.compute.jit import jit
from infra.store.storage import Storage, StorageError

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
WORD_BYTES = 8  # bytes


@dataclass(frozen=True)
class Shuffle:
    """One exchange; picklable.

    Attributes:
        storage: a folder of its own.
        n_partitions: number of receivers.
        width: words per row.
    """

    storage: Storage
    n_partitions: int
    width: int

    def write_rows(self, mapper: int, partition: I64, rows: U64) -> None:
        """Write what a sender has for everybody; a row's order within a partition is kept.

        Args:
            mapper: its number; sending again replaces what it sent.
            partition: int64[n], where each row goes.
            rows: uint64[n, width].
        """
        ordered, bounds = group_by_partition(partition, rows, self.n_partitions)
        self.write_sorted(mapper, [ordered.reshape(-1)], bounds * self.width)

    def write_sorted(self, mapper: int, runs: Sequence[U64], bounds: I64) -> None:
        """Write words that are ordered by partition already.

        Args:
            mapper: its number.
            runs: arrays of words; one after the other they are the body of the file.
            bounds: int64[partitions + 1], the word at which each partition starts, and the end.
        """
        with self.storage.create(_file_name(mapper), durable=False) as file:
            file.write(bounds.astype("<i8").tobytes())
            for run in runs:
                file.write(as_bytes(run))

    def write_table(self, mapper: int, partition: I64, table: pa.Table) -> None:
        """Write a table's rows; a row's order within a partition is kept.

        Args:
            mapper: its number.
            partition: int64[n], where each row goes.
            table: n rows; ``width`` must be 1.
        """
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
        """The rows that `write_table` sent to a partition, senders in order."""
        found = [
            pa.ipc.open_stream(item).read_all() for item in self.iter_slices(partition, mappers)
        ]
        return pa.concat_tables([schema.empty_table(), *found]).combine_chunks()

    def iter_slices(self, partition: int, mappers: Sequence[int]) -> Iterator[U64]:
        """What each sender had for a partition: uint64[words], one array per sender.

        Raises:
            StorageError: if a file is missing or shorter than it says.
        """
        head = WORD_BYTES * (self.n_partitions + 1)
        for sender in mappers:
            name = _file_name(sender)
            try:
                raw = self.storage.read(name, WORD_BYTES * partition, WORD_BYTES * (partition + 2))
                start, end = np.frombuffer(raw, "<i8")
                if start == end:
                    continue
                raw = self.storage.read(
                    name, head + WORD_BYTES * int(start), head + WORD_BYTES * int(end)
                )
            except (FileNotFoundError, ValueError) as error:
                raise StorageError(
                    f"{self.storage.url}/{name}: cannot be read ({error})"
                ) from error
            if len(raw) != WORD_BYTES * (end - start):
                raise StorageError(
                    f"{self.storage.url}/{name}: cut short; remove {self.storage.url} and run again"
                )
            yield np.frombuffer(raw, "<u8")

    def read_partition(self, partition: int, mappers: Sequence[int]) -> U64:
        """All rows of a partition, senders in order: uint64[n, width]."""
        found = list(self.iter_slices(partition, mappers))
        words = np.concatenate(found) if found else np.zeros(0, np.uint64)
        return words.reshape(-1, self.width)


@jit
def group_by_partition(partition: I64, rows: U64, n_partitions: int) -> tuple[U64, I64]:
    """Rows grouped by partition, in their order within each; and where each group starts.

    Returns:
        uint64[n, width] and int64[partitions + 1].
    """
    bounds = np.zeros(n_partitions + 1, np.int64)
    for i in range(len(partition)):
        bounds[partition[i] + 1] += 1
    for p in range(n_partitions):
        bounds[p + 1] += bounds[p]
    at = bounds[:-1].copy()
    out = np.empty_like(rows)
    for i in range(len(partition)):
        place = at[partition[i]]
        at[partition[i]] += 1
        for k in range(rows.shape[1]):
            out[place, k] = rows[i, k]
    return out, bounds


def _pack_table(table: pa.Table) -> U64:
    """A table as whole words; its stream says itself where it ends."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data = bytes(sink.getvalue())
    return np.frombuffer(data + b"\0" * (-len(data) % WORD_BYTES), np.uint64)


def as_bytes(words: U64) -> memoryview:
    """The bytes of an array of words, without a copy where it is contiguous."""
    return np.ascontiguousarray(words).reshape(-1).view(np.uint8).data


def _file_name(mapper: int) -> str:
    return f"{mapper:06d}"
