"""The state that the passes over repeated text share: what is dropped or trimmed so far, by part."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from infra.compute.arrays import I64, U64, Bools
from infra.compute.shuffle import Shuffle, ShufflePlan
from infra.dataset.dataset import PartRef
from infra.dataset.fingerprint import json_sha256

State = dict[str, Any]

# Memory that a worker may use for the rows of one partition.
PARTITION_MEMORY_BYTES = 256 << 20
# Bytes a worker holds per row: the row, its sorted copy, indices, results.
BYTES_PER_ROW = 96
ID_SCHEMA = pa.schema([("number", pa.int64()), ("id", pa.string())])


def load_state(plan: ShufflePlan, pass_index: int, part: int) -> State:
    """Load the state of a part's documents after a pass; all keys are rows as text.

    ``dropped``: reason and evidence. ``trimmed``: ``cuts`` in characters of the text, and evidence.
    ``keeps``: documents that others, or text of others, are dropped for: they may be trimmed but
    not dropped.
    """
    state: State = json.loads(plan.work.read(f"state/{pass_index}/{part}.json"))
    return state


def save_state(plan: ShufflePlan, pass_index: int, part: int, state: State) -> str:
    """Save the state after a pass; return a digest of what decides the part of the corpus."""
    plan.work.write(f"state/{pass_index}/{part}.json", json.dumps(state).encode(), durable=False)
    return json_sha256([state["dropped"], state["trimmed"]])


def save_eligible(plan: ShufflePlan, part: int, eligible: Bools) -> None:
    """Save which documents of a part enter survivor selection."""
    plan.work.write(f"eligible/{part}", eligible.tobytes(), durable=False)


class PassResult(NamedTuple):
    """The result of a pass for one part.

    Attributes:
        digest: digest of the state after the pass.
        dropped: number of documents dropped.
        trimmed: number of documents that lost text and are kept.
    """

    digest: str
    dropped: int = 0
    trimmed: int = 0


@dataclass(frozen=True)
class PassPlan(ShufflePlan):
    """The shuffles of one pass; its document ranges are the parts. Picklable.

    Attributes:
        pass_index: number of the pass, from 1; it reads the state that the previous one saved.
        part_sources: index of each part's source.
        n_partitions: partitions of hashes.
    """

    pass_index: int
    part_sources: tuple[int, ...]
    n_partitions: int

    def shuffle(self, name: str, n_partitions: int, width: int) -> Shuffle:
        """Return a shuffle of this pass."""
        return super().shuffle(f"{self.pass_index}/{name}", n_partitions, width)

    def partition_of(self, hashes: U64) -> I64:
        """Return the partition of each hash."""
        return (hashes % np.uint64(self.n_partitions)).astype(np.int64)

    def source_of(self, numbers: U64) -> I64:
        """Return the source of each document."""
        return np.array(self.part_sources, np.int64)[self.range_of(numbers)]

    def previous_state(self, part: int) -> State:
        """Load the state of a part's documents before this pass."""
        return load_state(self, self.pass_index - 1, part)

    def save_state(self, part: int, state: State) -> str:
        """Save the state of a part's documents after this pass; return its digest."""
        return save_state(self, self.pass_index, part, state)

    def remaining(self, part: int) -> Bools:
        """Return which documents of a part are kept so far."""
        remaining = np.frombuffer(self.work.read(f"eligible/{part}"), bool).copy()
        remaining[[int(row) for row in self.previous_state(part)["dropped"]]] = False
        return remaining

    def request_ids(self, part: int, numbers: U64) -> None:
        """Request the ids of documents, which may be in any part."""
        distinct = np.unique(numbers)
        rows = np.column_stack([distinct, np.full(len(distinct), part, np.uint64)])
        self.shuffle_to_ranges("id_requests", 2).write_rows(part, self.range_of(distinct), rows)

    def requested(self, part: int) -> list[int]:
        """Return the rows of a part's documents whose ids were requested."""
        numbers = self.shuffle_to_ranges("id_requests", 2).read_partition(part, self.ranges)[:, 0]
        rows: list[int] = (np.unique(numbers).astype(np.int64) - self.starts[part]).tolist()
        return rows

    def send_ids(self, part: int, documents: PartRef) -> None:
        """Send the requested ids of a part's documents to the parts that requested them."""
        requests = self.shuffle_to_ranges("id_requests", 2).read_partition(part, self.ranges)
        rows = (requests[:, 0] - np.uint64(self.starts[part])).astype(np.int64)
        ids = documents.table(["id"])["id"].take(rows) if len(rows) else pa.array([], pa.string())
        numbers = pa.array(requests[:, 0].astype(np.int64))
        table = pa.table({"number": numbers, "id": ids}, schema=ID_SCHEMA)
        self.shuffle_to_ranges("ids", 1).write_table(part, requests[:, 1].astype(np.int64), table)

    def ids(self, part: int) -> dict[int, str]:
        """Return the ids that a part requested, by document number."""
        table = self.shuffle_to_ranges("ids", 1).read_table_partition(part, self.ranges, ID_SCHEMA)
        return dict(zip(table["number"].to_pylist(), table["id"].to_pylist(), strict=True))


def n_partitions(rows: int) -> int:
    """Return the number of partitions for so many rows."""
    return max(1, -(-rows * BYTES_PER_ROW // PARTITION_MEMORY_BYTES))


def flatten(column: pa.ChunkedArray, chosen: Bools, start: int) -> U64:
    """Return lists of hashes as rows of hash and document: uint64[m, 2].

    Args:
        column: n lists of uint64.
        chosen: bool[n], the lists to use.
        start: number of the first document.
    """
    lists = column.combine_chunks()
    if isinstance(lists, pa.ChunkedArray):  # combine_chunks of an empty column
        return np.zeros((0, 2), np.uint64)
    offsets = lists.offsets.to_numpy()
    values = lists.values.to_numpy()[offsets[0] : offsets[-1]]
    row = np.repeat(np.arange(len(lists)), np.diff(offsets))
    keep = chosen[row]
    numbers = (row[keep] + start).astype(np.uint64)
    return np.column_stack([values[keep], numbers])


def group_runs(numbers: U64) -> Sequence[tuple[int, slice]]:
    """Return each distinct number and the slice of its run, in sorted numbers."""
    distinct, first = np.unique(numbers, return_index=True)
    ends = np.append(first, len(numbers))[1:]
    return [
        (int(number), slice(int(start), int(end)))
        for number, start, end in zip(distinct, first, ends, strict=True)
    ]
