"""What the join leaves behind: marks row by row beside the documents, and the pairs compared."""

from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from infra.dataset.dataset import FileRecord, table_bytes
from infra.dataset.fingerprint import digest_bytes
from infra.schemas.duplicate_pairs import EDGES, REJECTED
from infra.store.storage import Storage
from tasks.dedup.candidates.candidate_pairs import NO_BAND
from tasks.dedup.candidates.exact import grouped, received_groups
from tasks.dedup.part_groups import Block
from tasks.dedup.shuffle_plan import Layout, floats
from tasks.dedup.verification.verify import COMPARED, MARKS

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

MARK_SCHEMA = pa.schema(
    [("exact_group", pa.string()), ("cluster", pa.string()), ("cluster_size", pa.int32())]
)
PAIR_SCHEMA = pa.schema(
    [
        ("cluster", pa.string()),  # null where the pair failed
        ("part_a", pa.int64()),
        ("row_a", pa.int64()),
        ("part_b", pa.int64()),
        ("row_b", pa.int64()),
        ("similarity", pa.float64()),
        ("band", pa.int16()),  # the first that nominated it; -1: compared within its cluster
    ]
)
SHOWN_CLUSTERS, SHOWN_MEMBERS = 10, 5


def share(layout: Layout, partition: int) -> dict[str, Any]:
    """Tell every member of an exact group its cluster: that of the group's first, or the group."""
    rows, first, sizes = grouped(layout, partition)
    told = layout.exchange("shared", len(layout.exact_partitions), MARKS)
    clusters = told.receive(partition, layout.bins)
    clusters = clusters[np.argsort(clusters[:, 0])]
    marks = np.empty((len(rows), MARKS), np.uint64)
    marks[:, 0] = rows[:, 2]
    marks[:, 1:3] = rows[:, :2]
    marks[:, 3] = np.repeat(sizes, sizes)
    if len(clusters) and len(rows):
        leaders = np.repeat(rows[first, 2], sizes)
        place = np.minimum(np.searchsorted(clusters[:, 0], leaders), len(clusters) - 1)
        hit = clusters[place, 0] == leaders
        marks[hit, 1:] = clusters[place[hit], 1:]
    sender = len(layout.bins) + partition
    layout.to_blocks("marks", MARKS).send(sender, layout.block_of(marks[:, 0]), marks)
    return {}


def write_marks(layout: Layout, block: Block) -> dict[str, Any]:
    """Write the marks of each part of a block.

    Returns:
        ``parts``: digests of the marks, in order; ``sizes``: documents by size of their cluster;
        ``largest``: names of the block's largest clusters with their sizes.
    """
    marks = _marks(layout, block)
    digests = []
    for piece in block.pieces:
        offset = piece.start - block.start
        data = table_bytes(marks.slice(offset, piece.documents.rows))
        layout.work.put(f"marked/{piece.number}.parquet", data, durable=False)
        digests.append(digest_bytes(data))
    sizes = marks["cluster_size"].to_numpy()
    found = marks.filter(sizes > 1).select(["cluster", "cluster_size"])
    named = found.group_by(["cluster", "cluster_size"]).aggregate([]).to_pylist()
    named.sort(key=lambda item: (-item["cluster_size"], item["cluster"]))
    return {
        "parts": digests,
        "sizes": dict(Counter(sizes.tolist())),
        "largest": [[c["cluster"], c["cluster_size"]] for c in named[:SHOWN_CLUSTERS]],
    }


def _marks(layout: Layout, block: Block) -> pa.Table:
    """The marks of a block's documents: a row of `MARK_SCHEMA` each."""
    digests, present = block.digests(), block.present()
    groups = received_groups(layout, block)
    exact = np.zeros(block.rows, bool)
    exact[_rows(block, groups[:, 0])] = True
    senders = range(len(layout.bins) + len(layout.exact_partitions))
    found = layout.to_blocks("marks", MARKS).receive(block.index, senders)
    rows = _rows(block, found[:, 0])
    clusters = np.zeros((block.rows, 2), np.uint64)
    clusters[rows] = found[:, 1:3]
    sizes = np.where(present, 1, 0).astype(np.int32)
    sizes[rows] = found[:, 3].astype(np.int32)
    columns = [names(digests, exact), names(clusters, sizes > 1), pa.array(sizes)]
    return pa.table(columns, schema=MARK_SCHEMA)


def describe(block: Block, wanted: Collection[str], marks: Storage) -> dict[str, Any]:
    """How many documents of some clusters each source has in a block, and the first of them."""
    out: dict[str, Any] = {name: {"sources": {}, "members": []} for name in wanted}
    for piece in block.pieces:
        with marks.open(f"marked/{piece.number}.parquet") as file:
            column = pq.read_table(file, columns=["cluster"])["cluster"].to_pylist()
        chosen = [row for row, name in enumerate(column) if name in out]
        if not chosen:
            continue
        table = piece.documents.table(["id", "url", "title", "source"])
        for row, shown in zip(chosen, table.take(chosen).to_pylist(), strict=True):
            found = out[column[row]]
            source = str(piece.documents.source)
            found["sources"][source] = found["sources"].get(source, 0) + 1
            if len(found["members"]) < SHOWN_MEMBERS:
                found["members"].append(shown)
    return out


def pair_files(number: int) -> tuple[str, str]:
    """The names of the two files that `write_pairs` writes."""
    return f"{EDGES}{number:05d}.parquet", f"{REJECTED}{number:05d}.parquet"


def write_pairs(layout: Layout, folder: Storage, starts: I64, number: int) -> list[dict[str, Any]]:
    """Write two files of pairs: those that hold, by cluster, and those that do not.

    Args:
        layout: the join.
        folder: of the data set.
        starts: first document of each part, and the number of all.
        number: the files' number.

    Returns:
        Name, bytes and SHA-256 of each file.
    """
    exchange = layout.exchange("compared", layout.files, COMPARED)
    rows = exchange.receive(number, layout.bins)
    out = []
    rows = rows[np.lexsort(tuple(rows[:, k] for k in (3, 2, 1, 0)))]
    held = rows[:, 0:2].any(axis=1)
    for file, chosen in zip(pair_files(number), (rows[held], rows[~held]), strict=True):
        data = table_bytes(_pair_table(chosen, starts))
        folder.put(file, data)
        out.append(vars(FileRecord(file, len(data), digest_bytes(data))))
    return out


def _pair_table(rows: U64, starts: I64) -> pa.Table:
    ends = []
    for column in (2, 3):
        documents = rows[:, column].astype(np.int64)
        part = np.searchsorted(starts, documents, side="right") - 1
        ends += [pa.array(part), pa.array(documents - starts[part])]
    band = np.where(rows[:, 4] & NO_BAND, -1, (rows[:, 4] & np.uint64(255)).astype(np.int16))
    held: Flags = (rows[:, 0] | rows[:, 1]) != 0
    clusters = names(rows[:, 0:2], held)
    columns = [clusters, *ends, pa.array(floats(rows[:, 5])), pa.array(band.astype(np.int16))]
    return pa.table(columns, schema=PAIR_SCHEMA)


def names(halves: U64, valid: Flags) -> "pa.Array[Any]":
    """Digests in hexadecimal; null where not valid."""
    raw = np.ascontiguousarray(halves).astype(">u8").tobytes()
    size = 16
    found = [
        raw[size * row : size * (row + 1)].hex() if good else None
        for row, good in enumerate(valid.tolist())
    ]
    return pa.array(found, pa.string())


def _rows(block: Block, documents: U64) -> I64:
    rows: I64 = (documents - np.uint64(block.start)).astype(np.int64)
    return rows
