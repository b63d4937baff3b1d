"""What the join leaves behind: marks row by row beside the documents, and the pairs compared."""

from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from infra.dataset.dataset import FileRecord
from infra.dataset.fingerprint import bytes_sha256
from infra.dataset.tables import table_bytes
from infra.schemas.duplicate_pairs import REJECTED_PREFIX, VERIFIED_PREFIX
from infra.store.storage import Storage
from tasks.dedup.candidates.candidate_pairs import NO_BAND
from tasks.dedup.candidates.exact import group_rows, receive_groups
from tasks.dedup.part_groups import PartGroup
from tasks.dedup.shuffle_plan import ShufflePlan, words_to_floats
from tasks.dedup.verification.verify import COMPARED_WIDTH, LABEL_WIDTH

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

LABEL_SCHEMA = pa.schema(
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
MAX_SHOWN_CLUSTERS, MAX_SHOWN_MEMBERS = 10, 5


def assign_exact_groups(plan: ShufflePlan, partition: int) -> dict[str, Any]:
    """Tell every member of an exact group its cluster: that of the group's first, or the group."""
    rows, first, sizes = group_rows(plan, partition)
    told = plan.shuffle("group_labels", len(plan.exact_partitions), LABEL_WIDTH)
    clusters = told.read_partition(partition, plan.batches)
    clusters = clusters[np.argsort(clusters[:, 0])]
    marks = np.empty((len(rows), LABEL_WIDTH), np.uint64)
    marks[:, 0] = rows[:, 2]
    marks[:, 1:3] = rows[:, :2]
    marks[:, 3] = np.repeat(sizes, sizes)
    if len(clusters) and len(rows):
        leaders = np.repeat(rows[first, 2], sizes)
        place = np.minimum(np.searchsorted(clusters[:, 0], leaders), len(clusters) - 1)
        hit = clusters[place, 0] == leaders
        marks[hit, 1:] = clusters[place[hit], 1:]
    sender = len(plan.batches) + partition
    plan.shuffle_to_part_groups("labels", LABEL_WIDTH).write_rows(
        sender, plan.part_group_index(marks[:, 0]), marks
    )
    return {}


def write_labels(plan: ShufflePlan, part_group: PartGroup) -> dict[str, Any]:
    """Write the marks of each part of a block.

    Returns:
        ``parts``: digests of the marks, in order; ``sizes``: documents by size of their cluster;
        ``largest``: names of the block's largest clusters with their sizes.
    """
    marks = _label_table(plan, part_group)
    digests = []
    for piece in part_group.parts:
        offset = piece.start - part_group.start
        data = table_bytes(marks.slice(offset, piece.documents.num_rows))
        plan.work.write(f"labels/{piece.index}.parquet", data, durable=False)
        digests.append(bytes_sha256(data))
    sizes = marks["cluster_size"].to_numpy()
    found = marks.filter(sizes > 1).select(["cluster", "cluster_size"])
    named = found.group_by(["cluster", "cluster_size"]).aggregate([]).to_pylist()
    named.sort(key=lambda item: (-item["cluster_size"], item["cluster"]))
    return {
        "parts": digests,
        "sizes": dict(Counter(sizes.tolist())),
        "largest": [[c["cluster"], c["cluster_size"]] for c in named[:MAX_SHOWN_CLUSTERS]],
    }


def _label_table(plan: ShufflePlan, part_group: PartGroup) -> pa.Table:
    """The marks of a block's documents: a row of `LABEL_SCHEMA` each."""
    digests, present = part_group.digests(), part_group.present()
    groups = receive_groups(plan, part_group)
    exact = np.zeros(part_group.rows, bool)
    exact[_row_indices(part_group, groups[:, 0])] = True
    senders = range(len(plan.batches) + len(plan.exact_partitions))
    found = plan.shuffle_to_part_groups("labels", LABEL_WIDTH).read_partition(
        part_group.index, senders
    )
    rows = _row_indices(part_group, found[:, 0])
    clusters = np.zeros((part_group.rows, 2), np.uint64)
    clusters[rows] = found[:, 1:3]
    sizes = np.where(present, 1, 0).astype(np.int32)
    sizes[rows] = found[:, 3].astype(np.int32)
    columns = [hex_digests(digests, exact), hex_digests(clusters, sizes > 1), pa.array(sizes)]
    return pa.table(columns, schema=LABEL_SCHEMA)


def describe_clusters(
    part_group: PartGroup, cluster_ids: Collection[str], work: Storage
) -> dict[str, Any]:
    """How many documents of some clusters each source has in a block, and the first of them."""
    out: dict[str, Any] = {name: {"sources": {}, "members": []} for name in cluster_ids}
    for piece in part_group.parts:
        with work.open(f"labels/{piece.index}.parquet") as file:
            column = pq.read_table(file, columns=["cluster"])["cluster"].to_pylist()
        chosen = [row for row, name in enumerate(column) if name in out]
        if not chosen:
            continue
        table = piece.documents.table(["id", "url", "title", "source"])
        for row, shown in zip(chosen, table.take(chosen).to_pylist(), strict=True):
            found = out[column[row]]
            source = str(piece.documents.source)
            found["sources"][source] = found["sources"].get(source, 0) + 1
            if len(found["members"]) < MAX_SHOWN_MEMBERS:
                found["members"].append(shown)
    return out


def pair_file_names(number: int) -> tuple[str, str]:
    """The names of the two files that `write_pairs` writes."""
    return f"{VERIFIED_PREFIX}{number:05d}.parquet", f"{REJECTED_PREFIX}{number:05d}.parquet"


def write_pairs(
    plan: ShufflePlan, folder: Storage, starts: I64, number: int
) -> list[dict[str, Any]]:
    """Write two files of pairs: those that hold, by cluster, and those that do not.

    Args:
        plan: the join.
        folder: of the data set.
        starts: first document of each part, and the number of all.
        number: the files' number.

    Returns:
        Name, bytes and SHA-256 of each file.
    """
    exchange = plan.shuffle("compared", plan.n_files, COMPARED_WIDTH)
    rows = exchange.read_partition(number, plan.batches)
    out = []
    rows = rows[np.lexsort(tuple(rows[:, k] for k in (3, 2, 1, 0)))]
    held = rows[:, 0:2].any(axis=1)
    for file, chosen in zip(pair_file_names(number), (rows[held], rows[~held]), strict=True):
        data = table_bytes(_pair_table(chosen, starts))
        folder.write(file, data)
        out.append(vars(FileRecord(file, len(data), bytes_sha256(data))))
    return out


def _pair_table(rows: U64, starts: I64) -> pa.Table:
    ends = []
    for column in (2, 3):
        documents = rows[:, column].astype(np.int64)
        part = np.searchsorted(starts, documents, side="right") - 1
        ends += [pa.array(part), pa.array(documents - starts[part])]
    band = np.where(rows[:, 4] & NO_BAND, -1, (rows[:, 4] & np.uint64(255)).astype(np.int16))
    held: Flags = (rows[:, 0] | rows[:, 1]) != 0
    clusters = hex_digests(rows[:, 0:2], held)
    columns = [
        clusters,
        *ends,
        pa.array(words_to_floats(rows[:, 5])),
        pa.array(band.astype(np.int16)),
    ]
    return pa.table(columns, schema=PAIR_SCHEMA)


def hex_digests(halves: U64, valid: Flags) -> "pa.Array[Any]":
    """Digests in hexadecimal; null where not valid."""
    raw = np.ascontiguousarray(halves).astype(">u8").tobytes()
    size = 16
    found = [
        raw[size * row : size * (row + 1)].hex() if good else None
        for row, good in enumerate(valid.tolist())
    ]
    return pa.array(found, pa.string())


def _row_indices(part_group: PartGroup, documents: U64) -> I64:
    rows: I64 = (documents - np.uint64(part_group.start)).astype(np.int64)
    return rows
