"""What the levels below whole documents share: who still stands, what was ruled, who is named."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.compute.shuffle import Shuffle
from infra.dataset.dataset import PartRef
from infra.dataset.fingerprint import json_sha256
from infra.store.storage import Storage

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
State = dict[str, Any]

PARTITION_MEMORY_BYTES = (
    256 << 20
)  # bytes that the rows of a partition may fill while a worker looks at them
BYTES_PER_ROW = 96  # bytes for a row: itself, its sorted copy, indices, results
ID_SCHEMA = pa.schema([("number", pa.int64()), ("id", pa.string())])


def load_state(work: Storage, pass_index: int, part: int) -> State:
    """What is known of a part's documents after a level, all by row as text.

    ``dropped``: reason and evidence. ``trimmed``: ``cuts`` in characters of the text, and evidence.
    ``keeps``: documents that others, or text of others, are gone for: they may lose text, not go.
    """
    found: State = json.loads(work.read(f"state/{pass_index}/{part}.json"))
    return found


def save_state(work: Storage, pass_index: int, part: int, state: State) -> str:
    """Write down what is known after a level; the digest of what a part is written by."""
    work.write(f"state/{pass_index}/{part}.json", json.dumps(state).encode(), durable=False)
    return json_sha256([state["dropped"], state["trimmed"]])


def save_eligible(work: Storage, part: int, eligible: npt.NDArray[np.bool_]) -> None:
    """Write down which documents of a part stand in the election."""
    work.write(f"eligible/{part}", eligible.tobytes(), durable=False)


@dataclass(frozen=True)
class PassResult:
    """What a level did to a part.

    Attributes:
        digest: of all that is known of its documents now.
        dropped: documents that went.
        trimmed: documents that lost text and stay.
    """

    digest: str
    dropped: int = 0
    trimmed: int = 0


@dataclass(frozen=True)
class PassShuffle:
    """Where the rows of one level pass; picklable.

    Attributes:
        work: the folder of the selection.
        pass_index: its place; it reads what the one before left.
        part_offsets: the number of the first document of each part, and the number of all.
        part_sources: the place of each part's source.
        partitions: receivers of hashes.
    """

    work: Storage
    pass_index: int
    part_offsets: tuple[int, ...]
    part_sources: tuple[int, ...]
    partitions: int

    @property
    def parts(self) -> range:
        """The numbers of the parts."""
        return range(len(self.part_sources))

    def open_shuffle(self, name: str, n_partitions: int, width: int) -> Shuffle:
        """An exchange of this level."""
        return Shuffle(self.work.subdir(str(self.pass_index), name), n_partitions, width)

    def to_parts(self, name: str, width: int) -> Shuffle:
        """An exchange whose receivers are the parts."""
        return self.open_shuffle(name, len(self.parts), width)

    def partition_of(self, hashes: U64) -> I64:
        """The partition of each hash; its bits are as good as random."""
        return (hashes % np.uint64(self.partitions)).astype(np.int64)

    def part_of(self, numbers: U64) -> I64:
        """The part of each document."""
        starts = np.array(self.part_offsets[:-1], np.uint64)
        found: I64 = np.searchsorted(starts, numbers, side="right") - 1
        return found

    def source_of(self, numbers: U64) -> I64:
        """The source of each document."""
        return np.array(self.part_sources, np.int64)[self.part_of(numbers)]

    def previous_state(self, part: int) -> State:
        """What is known of a part's documents before this level."""
        return load_state(self.work, self.pass_index - 1, part)

    def remaining(self, part: int) -> npt.NDArray[np.bool_]:
        """Which documents of a part stay so far."""
        stands = np.frombuffer(self.work.read(f"eligible/{part}"), bool).copy()
        stands[[int(row) for row in self.previous_state(part)["dropped"]]] = False
        return stands

    def request_ids(self, part: int, numbers: U64) -> None:
        """Ask for the ids of documents, which may lie in any part."""
        wanted = np.unique(numbers)
        rows = np.column_stack([wanted, np.full(len(wanted), part, np.uint64)])
        self.to_parts("id_requests", 2).write_rows(part, self.part_of(wanted), rows)

    def requested(self, part: int) -> list[int]:
        """The rows of a part's documents whose ids were asked for."""
        found = self.to_parts("id_requests", 2).read_partition(part, self.parts)[:, 0]
        rows: list[int] = (np.unique(found).astype(np.int64) - self.part_offsets[part]).tolist()
        return rows

    def send_ids(self, part: int, documents: PartRef) -> None:
        """Send the ids of a part's documents to those that asked for them."""
        asked = self.to_parts("id_requests", 2).read_partition(part, self.parts)
        rows = (asked[:, 0] - np.uint64(self.part_offsets[part])).astype(np.int64)
        ids = documents.table(["id"])["id"].take(rows) if len(rows) else pa.array([], pa.string())
        numbers = pa.array(asked[:, 0].astype(np.int64))
        table = pa.table({"number": numbers, "id": ids}, schema=ID_SCHEMA)
        self.to_parts("ids", 1).write_table(part, asked[:, 1].astype(np.int64), table)

    def ids(self, part: int) -> dict[int, str]:
        """The ids that a part asked for, by number."""
        found = self.to_parts("ids", 1).read_table_partition(part, self.parts, ID_SCHEMA)
        return dict(zip(found["number"].to_pylist(), found["id"].to_pylist(), strict=True))


def n_partitions(rows: int) -> int:
    """How many partitions so many rows need."""
    return max(1, -(-rows * BYTES_PER_ROW // PARTITION_MEMORY_BYTES))


def flatten(column: pa.ChunkedArray, chosen: npt.NDArray[np.bool_], start: int) -> U64:
    """Lists of hashes as rows of hash and document: uint64[m, 2].

    Args:
        column: n lists of uint64.
        chosen: bool[n], the lists that are looked at.
        start: the number of the first document.
    """
    lists = column.combine_chunks()
    if isinstance(lists, pa.ChunkedArray):  # of an empty column
        return np.zeros((0, 2), np.uint64)
    offsets = lists.offsets.to_numpy()
    values = lists.values.to_numpy()[offsets[0] : offsets[-1]]
    owner = np.repeat(np.arange(len(lists)), np.diff(offsets))
    keep = chosen[owner]
    numbers = (owner[keep] + start).astype(np.uint64)
    return np.column_stack([values[keep], numbers])


def group_runs(numbers: U64) -> Sequence[tuple[int, slice]]:
    """Each number with its run, in sorted numbers."""
    found, first = np.unique(numbers, return_index=True)
    ends = np.append(first, len(numbers))[1:]
    return [
        (int(number), slice(int(a), int(b)))
        for number, a, b in zip(found, first, ends, strict=True)
    ]
