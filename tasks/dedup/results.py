"""The results of deduplication: duplicate labels beside the documents, and the compared pairs."""

from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra.compute.arrays import I64, U64, Bools
from infra.dataset.fingerprint import bytes_sha256
from infra.dataset.manifest import FileRecord
from infra.dataset.tables import table_bytes
from infra.schemas.duplicate_pairs import REJECTED_PREFIX, VERIFIED_PREFIX
from infra.store.storage import Storage
from tasks.dedup.candidates.candidate_pairs import NO_BAND
from tasks.dedup.candidates.exact import group_rows, receive_groups
from tasks.dedup.part_groups import PartGroup
from tasks.dedup.shuffle_plan import DedupPlan, words_to_floats
from tasks.dedup.verification.verify import COMPARED_WIDTH, LABEL_WIDTH

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
        ("band", pa.int16()),  # the first that both documents share; -1: compared within a cluster
    ]
)
MAX_SHOWN_CLUSTERS, MAX_SHOWN_MEMBERS = 10, 5


def assign_exact_groups(plan: DedupPlan, partition: int) -> dict[str, Any]:
    """Send every member of an exact group its cluster: that of the group's first, or the group."""
    rows, first, sizes = group_rows(plan, partition)
    group_labels = plan.shuffle("group_labels", len(plan.exact_partitions), LABEL_WIDTH)
    clusters = group_labels.read_partition(partition, plan.batches)
    clusters = clusters[np.argsort(clusters[:, 0])]
    labels = np.empty((len(rows), LABEL_WIDTH), np.uint64)
    labels[:, 0] = rows[:, 2]
    labels[:, 1:3] = rows[:, :2]
    labels[:, 3] = np.repeat(sizes, sizes)
    if len(clusters) and len(rows):
        first_documents = np.repeat(rows[first, 2], sizes)
        index = np.searchsorted(clusters[:, 0], first_documents)
        index = np.minimum(index, len(clusters) - 1)
        hit = clusters[index, 0] == first_documents
        labels[hit, 1:] = clusters[index[hit], 1:]
    mapper = len(plan.batches) + partition
    plan.shuffle_to_ranges("labels", LABEL_WIDTH).write_rows(
        mapper, plan.range_of(labels[:, 0]), labels
    )
    return {}


def write_labels(plan: DedupPlan, part_group: PartGroup) -> dict[str, Any]:
    """Write the duplicate labels of each part of a group.

    Returns:
        ``parts``: digests of the labels, in order; ``sizes``: documents by size of their cluster;
        ``largest``: names of the group's largest clusters with their sizes.
    """
    labels = _label_table(plan, part_group)
    digests = []
    for part in part_group.parts:
        offset = part.start - part_group.start
        data = table_bytes(labels.slice(offset, part.documents.num_rows))
        plan.work.write(labels_file(part.index), data, durable=False)
        digests.append(bytes_sha256(data))
    sizes = labels["cluster_size"].to_numpy()
    clustered = labels.filter(sizes > 1).select(["cluster", "cluster_size"])
    clusters = clustered.group_by(["cluster", "cluster_size"]).aggregate([]).to_pylist()
    clusters.sort(key=lambda item: (-item["cluster_size"], item["cluster"]))
    return {
        "parts": digests,
        "sizes": dict(Counter(sizes.tolist())),
        "largest": [[c["cluster"], c["cluster_size"]] for c in clusters[:MAX_SHOWN_CLUSTERS]],
    }


def _label_table(plan: DedupPlan, part_group: PartGroup) -> pa.Table:
    """Return the labels of a part group's documents: one row of `LABEL_SCHEMA` each."""
    digests, present = part_group.digests(), part_group.present()
    groups = receive_groups(plan, part_group)
    exact = np.zeros(part_group.rows, bool)
    exact[part_group.row_of(groups[:, 0])] = True
    mappers = range(len(plan.batches) + len(plan.exact_partitions))
    labels = plan.shuffle_to_ranges("labels", LABEL_WIDTH).read_partition(part_group.index, mappers)
    rows = part_group.row_of(labels[:, 0])
    clusters = np.zeros((part_group.rows, 2), np.uint64)
    clusters[rows] = labels[:, 1:3]
    sizes = np.where(present, 1, 0).astype(np.int32)
    sizes[rows] = labels[:, 3].astype(np.int32)
    columns = [hex_digests(digests, exact), hex_digests(clusters, sizes > 1), pa.array(sizes)]
    return pa.table(columns, schema=LABEL_SCHEMA)


def describe_clusters(
    part_group: PartGroup, cluster_ids: Collection[str], work: Storage
) -> dict[str, Any]:
    """Count the documents of some clusters by source in a part group, and list the first of them."""
    clusters: dict[str, Any] = {name: {"sources": {}, "members": []} for name in cluster_ids}
    for part in part_group.parts:
        with work.open(labels_file(part.index)) as file:
            column = pq.read_table(file, columns=["cluster"])["cluster"].to_pylist()
        chosen = [row for row, name in enumerate(column) if name in clusters]
        if not chosen:
            continue
        table = part.documents.table(["id", "url", "title", "source"])
        for row, member in zip(chosen, table.take(chosen).to_pylist(), strict=True):
            cluster = clusters[column[row]]
            source = str(part.documents.source)
            cluster["sources"][source] = cluster["sources"].get(source, 0) + 1
            if len(cluster["members"]) < MAX_SHOWN_MEMBERS:
                cluster["members"].append(member)
    return clusters


def labels_file(part_index: int) -> str:
    """Return the file of a part's labels in the work folder."""
    return f"labels/{part_index}.parquet"


def pair_file_names(number: int) -> tuple[str, str]:
    """Return the names of the two files that `write_pairs` writes."""
    return f"{VERIFIED_PREFIX}{number:05d}.parquet", f"{REJECTED_PREFIX}{number:05d}.parquet"


def write_pairs(plan: DedupPlan, folder: Storage, starts: I64, number: int) -> list[dict[str, Any]]:
    """Write two files of pairs: verified ones, sorted by cluster, and rejected ones.

    ``starts`` holds the number of the first document of each part, and of all documents. Returns a
    `FileRecord` of each file, as JSON.
    """
    shuffle = plan.shuffle("compared", plan.n_files, COMPARED_WIDTH)
    rows = shuffle.read_partition(number, plan.batches)
    records = []
    rows = rows[np.lexsort(tuple(rows[:, k] for k in (3, 2, 1, 0)))]
    verified = rows[:, 0:2].any(axis=1)
    tables = (rows[verified], rows[~verified])
    for file, chosen in zip(pair_file_names(number), tables, strict=True):
        data = table_bytes(_pair_table(chosen, starts))
        folder.write(file, data)
        records.append(vars(FileRecord(file, len(data), bytes_sha256(data))))
    return records


def _pair_table(rows: U64, starts: I64) -> pa.Table:
    ends = []
    for column in (2, 3):
        documents = rows[:, column].astype(np.int64)
        part = np.searchsorted(starts, documents, side="right") - 1
        ends += [pa.array(part), pa.array(documents - starts[part])]
    band = np.where(rows[:, 4] & NO_BAND, -1, (rows[:, 4] & np.uint64(255)).astype(np.int16))
    verified: Bools = (rows[:, 0] | rows[:, 1]) != 0
    clusters = hex_digests(rows[:, 0:2], verified)
    similarity = pa.array(words_to_floats(rows[:, 5]))
    columns = [clusters, *ends, similarity, pa.array(band.astype(np.int16))]
    return pa.table(columns, schema=PAIR_SCHEMA)


def hex_digests(halves: U64, valid: Bools) -> "pa.Array[Any]":
    """Return digests in hexadecimal; null where not valid."""
    raw = np.ascontiguousarray(halves).astype(">u8").tobytes()
    digests = [
        raw[16 * row : 16 * (row + 1)].hex() if good else None
        for row, good in enumerate(valid.tolist())
    ]
    return pa.array(digests, pa.string())
