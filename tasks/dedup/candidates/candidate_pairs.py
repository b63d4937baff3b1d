"""The pairs to compare, joined with the similarities that earlier runs computed.

A similarity depends on the two texts alone. A data set keeps every pair that was compared, verified
or rejected, by part digest and row. A later run over more parts looks its pairs up there and reads
no text for them.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra.compute.arrays import U64
from infra.dataset.fingerprint import bytes_sha256
from infra.dataset.manifest import FileRecord
from infra.store.storage import Storage
from tasks.dedup.candidates.lsh import receive_pairs
from tasks.dedup.shuffle_plan import DedupPlan, floats_to_words

log = logging.getLogger(__name__)


# Rows of pairs: smaller document, larger document, band and flags, similarity.
PAIR_WIDTH, KNOWN_WIDTH = 4, 3
# Flag: compared before, but no candidate now.
KNOWN_ONLY = np.uint64(1 << 16)
# Flag: no candidate, but compared since both are members of one cluster.
NO_BAND = np.uint64(1 << 17)
PAIR_COLUMNS = ["part_a", "row_a", "part_b", "row_b", "similarity"]


def send_known(
    plan: DedupPlan, mapper: int, storage: Storage, file: FileRecord, starts: Mapping[int, int]
) -> dict[str, Any]:
    """Send the pairs of one file of an earlier data set to their pair ranges.

    If the file is missing or was changed, its pairs are compared anew. ``starts`` holds, for each part
    of the earlier data set that still exists, the number of its first document in this run.
    """
    shuffle = plan.shuffle("known", plan.n_pair_ranges, KNOWN_WIDTH)
    try:
        data = storage.read(file.name)
    except FileNotFoundError:
        data = b""
    if bytes_sha256(data) != file.sha256:
        log.warning(
            "%s/%s: missing or changed; its pairs are compared anew", storage.url, file.name
        )
        shuffle.write_rows(mapper, np.zeros(0, np.int64), np.zeros((0, KNOWN_WIDTH), np.uint64))
        return {"known": 0}
    table = pq.read_table(pa.BufferReader(data), columns=PAIR_COLUMNS)
    last = max(
        [*starts, -1, *(int(table[p].to_numpy().max(initial=0)) for p in PAIR_COLUMNS[0:4:2])]
    )
    start_of = np.full(last + 1, -1, np.int64)
    for part, start in starts.items():
        start_of[part] = start
    ends = []
    for side in "ab":
        start = start_of[table[f"part_{side}"].to_numpy()]
        ends.append(np.where(start < 0, -1, start + table[f"row_{side}"].to_numpy()))
    existing = (ends[0] >= 0) & (ends[1] >= 0)
    low, high = np.minimum(*ends)[existing], np.maximum(*ends)[existing]
    similarity = floats_to_words(table["similarity"].to_numpy()[existing])
    rows = np.column_stack([low.astype(np.uint64), high.astype(np.uint64), similarity])
    shuffle.write_rows(mapper, plan.pair_range_of(rows[:, 0]), rows)
    return {"known": len(rows)}


def merge_pairs(
    plan: DedupPlan, partition: int, n_files: int, mappers: Sequence[int]
) -> dict[str, Any]:
    """Save the candidate and known pairs of a range, with the similarity where it is known.

    ``mappers`` are those of candidate pairs (`tasks.dedup.candidates.lsh.pair_mappers`); known pairs
    come from ``n_files`` files.
    """
    pairs = receive_pairs(plan, partition, mappers)
    known = plan.shuffle("known", plan.n_pair_ranges, KNOWN_WIDTH).read_partition(
        partition, range(n_files)
    )
    rows = np.empty((len(pairs) + len(known), PAIR_WIDTH), np.uint64)
    rows[: len(pairs), :3] = pairs
    rows[: len(pairs), 3] = floats_to_words(np.full(len(pairs), np.nan))
    rows[len(pairs) :, :2] = known[:, :2]
    rows[len(pairs) :, 2] = KNOWN_ONLY
    rows[len(pairs) :, 3] = known[:, 2]
    if len(known):
        rows = _merge_known(rows)
    plan.save(f"candidates/{partition}", rows)
    return {"candidates": len(pairs)}


def _merge_known(rows: U64) -> U64:
    """Merge rows of the same pair: the candidate's band with the known similarity."""
    rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]  # candidates come first
    same = (rows[1:, :2] == rows[:-1, :2]).all(axis=1)
    head = np.append(same, False)
    rows[head, 3] = rows[1:][same][:, 3] if same.any() else rows[head, 3]
    return rows[~np.insert(same, 0, False)] if len(rows) else rows


def load_pairs(plan: DedupPlan, partition: int, *, include_known: bool = False) -> U64:
    """Load what `merge_pairs` saved for a range; only candidates unless ``include_known``."""
    rows = plan.load(f"candidates/{partition}", PAIR_WIDTH)
    return rows if include_known else rows[(rows[:, 2] & KNOWN_ONLY) == 0]
