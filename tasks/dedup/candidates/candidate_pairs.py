"""The pairs to compare, and what earlier runs already know of them.

A similarity depends on the two texts alone. A data set keeps every pair that was compared, kept or
not, by the parts' content and rows; a later run over more parts looks its pairs up there, and reads
no text for them again.
"""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from infra.dataset.dataset import FileRecord
from infra.dataset.fingerprint import digest_bytes
from infra.store.storage import Storage
from tasks.dedup.candidates.lsh import received_pairs
from tasks.dedup.shuffle_plan import Layout, words

log = logging.getLogger(__name__)

U64 = npt.NDArray[np.uint64]
F64 = npt.NDArray[np.float64]

# Rows: smaller document, larger document, band and flags, similarity.
PAIRS, KNOWN = 4, 3
KNOWN_ONLY = np.uint64(1 << 16)  # compared before, but not nominated now
NO_BAND = np.uint64(1 << 17)  # not nominated, but compared as members of one cluster
PLACES = ["part_a", "row_a", "part_b", "row_b", "similarity"]


def send_known(
    layout: Layout, sender: int, storage: Storage, file: FileRecord, starts: Mapping[int, int]
) -> dict[str, Any]:
    """Send the pairs that one file of an earlier data set holds to their ranges.

    Args:
        layout: the join.
        sender: the file's number.
        storage: the earlier data set's folder.
        file: the file. One that is not there or was changed holds nothing: all it could say can be
            found out again.
        starts: by number of a part there, the number of its first document here.
    """
    exchange = layout.exchange("known", layout.ranges, KNOWN)
    try:
        data = storage.read(file.name)
    except FileNotFoundError:
        data = b""
    if digest_bytes(data) != file.sha256:
        log.warning(
            "%s/%s: missing or changed; its pairs are compared anew", storage.url, file.name
        )
        exchange.send(sender, np.zeros(0, np.int64), np.zeros((0, KNOWN), np.uint64))
        return {"known": 0}
    table = pq.read_table(pa.BufferReader(data), columns=PLACES)
    last = max([*starts, -1, *(int(table[p].to_numpy().max(initial=0)) for p in PLACES[0:4:2])])
    start_of = np.full(last + 1, -1, np.int64)
    for part, start in starts.items():
        start_of[part] = start
    ends = []
    for side in "ab":
        start = start_of[table[f"part_{side}"].to_numpy()]
        ends.append(np.where(start < 0, -1, start + table[f"row_{side}"].to_numpy()))
    here = (ends[0] >= 0) & (ends[1] >= 0)
    low, high = np.minimum(*ends)[here], np.maximum(*ends)[here]
    similarity = words(table["similarity"].to_numpy()[here])
    rows = np.column_stack([low.astype(np.uint64), high.astype(np.uint64), similarity])
    exchange.send(sender, layout.range_of(rows[:, 0]), rows)
    return {"known": len(rows)}


def collect(layout: Layout, partition: int, files: int, *, crowded: bool) -> dict[str, Any]:
    """The pairs of a range, nominated or known, with the similarity where it is known."""
    pairs = received_pairs(layout, partition, crowded=crowded)
    known = layout.exchange("known", layout.ranges, KNOWN).receive(partition, range(files))
    rows = np.empty((len(pairs) + len(known), PAIRS), np.uint64)
    rows[: len(pairs), :3] = pairs
    rows[: len(pairs), 3] = words(np.full(len(pairs), np.nan))
    rows[len(pairs) :, :2] = known[:, :2]
    rows[len(pairs) :, 2] = KNOWN_ONLY
    rows[len(pairs) :, 3] = known[:, 2]
    if len(known):
        rows = _joined(rows)
    layout.save(f"nominated/{partition}", rows)
    return {"candidates": len(pairs)}


def _joined(rows: U64) -> U64:
    """One row per pair: the nomination, with the similarity of the known pair beside it."""
    rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]  # nominations first
    same = (rows[1:, :2] == rows[:-1, :2]).all(axis=1)
    head = np.append(same, False)
    rows[head, 3] = rows[1:][same][:, 3] if same.any() else rows[head, 3]
    return rows[~np.insert(same, 0, False)] if len(rows) else rows


def load_pairs(layout: Layout, partition: int, *, every: bool = False) -> U64:
    """What `collect` found for a range; unless ``every``, only what is nominated."""
    rows = layout.load(f"nominated/{partition}", PAIRS)
    return rows if every else rows[(rows[:, 2] & KNOWN_ONLY) == 0]
