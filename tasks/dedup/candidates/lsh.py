"""Locality-sensitive hashing: the pairs of documents that share a band's key.

Up to a bound, every pair of a bucket is nominated. A larger bucket is put in the order of its
members' other keys, as in an LSH forest (Bawa, Condie, Ganesan: WWW 2005), so that members who
share more stand near one another, and is looked at in windows; in a window each member is nominated
with those whose packed signatures agree with its own most, and with the first of the bucket. The
cost is linear in the members. What is not nominated there is counted.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from infra.compute.jit import jit
from infra.compute.shuffle import group_by_partition
from tasks.dedup.candidates.exact import receive_groups
from tasks.dedup.minhash.b_bit import as_words, matching_values
from tasks.dedup.part_groups import PartGroup
from tasks.dedup.shuffle_plan import (
    PAIR_ROW_BYTES,
    ShufflePlan,
    duplicate_indices,
    find_equal_runs,
    high_bits,
)

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

# Rows of the exchanges. Keys: key, document. Pairs: smaller document, larger << 8 | band.
KEY_WIDTH, PAIR_WIDTH = 2, 2
# Members of crowded buckets: key, band, document; then with what orders them.
OVERSIZED_WIDTH, SORTED_WIDTH = 3, 9  # and, after those nine, the packed signature
EXTRA_SORT_KEYS = 3  # further keys by which a crowded bucket is ordered
INDEX_PAIR_WORDS = (
    8  # words for a pair of places: itself, what is left of it, both copies of a sort
)
WINDOW = 2048  # members of a crowded bucket that are looked at together


def send_keys(plan: ShufflePlan, part_group: PartGroup) -> dict[str, Any]:
    """Send a block's keys to the partitions of keys; of an exact group, its first document's."""
    chosen = part_group.present() & (part_group.shingle_counts() > 0)
    groups = receive_groups(plan, part_group)
    copies = groups[groups[:, 0] != groups[:, 1], 0]
    chosen[(copies - np.uint64(part_group.start)).astype(np.int64)] = False
    rows = np.flatnonzero(chosen)
    numbers = (rows + part_group.start).astype(np.uint64)
    pieces: list[U64] = []
    bounds = np.zeros(1, np.int64)
    for band in part_group.band_keys(plan.bands):
        keys = band[rows]
        ordered, own = group_by_partition(
            high_bits(keys, plan.key_bits),
            np.column_stack([keys, numbers]),
            1 << plan.key_bits,
        )
        pieces.append(ordered.reshape(-1))
        bounds = np.append(bounds, bounds[-1] + own[1:])
    exchange = plan.shuffle("keys", len(plan.key_partitions), KEY_WIDTH)
    exchange.write_sorted(part_group.index, pieces, bounds * KEY_WIDTH)
    return {"minhashed": len(rows)}


def bucket_pairs(plan: ShufflePlan, partition: int) -> dict[str, Any]:
    """Nominate the pairs of a partition's buckets; pass crowded buckets on."""
    band = partition >> plan.key_bits
    exchange = plan.shuffle("keys", len(plan.key_partitions), KEY_WIDTH)
    rows = exchange.read_partition(partition, plan.part_groups)
    rows = rows[duplicate_indices(rows[:, 0])]
    first, sizes = find_equal_runs(rows[:, 0])
    small = sizes <= plan.config.exhaustive_bucket_size
    pairs = all_pairs(rows[:, 1], first[small], sizes[small])
    _send_pairs(plan, partition, pairs, band)
    members = rows[np.repeat(~small, sizes)]
    tagged = np.column_stack([members[:, 0], np.full(len(members), band, np.uint64), members[:, 1]])
    plan.shuffle_to_part_groups("oversized", OVERSIZED_WIDTH).write_rows(
        partition, plan.part_group_index(tagged[:, 2]), tagged
    )
    return {
        "buckets": len(sizes),
        "largest": int(sizes.max(initial=0)),
        "oversized": int((~small).sum()),
        "oversized_members": len(members),
        "candidates": len(pairs),
    }


def send_oversized_members(plan: ShufflePlan, part_group: PartGroup) -> dict[str, Any]:
    """Send a block's members of crowded buckets on, with what orders them there."""
    found = plan.shuffle_to_part_groups("oversized", OVERSIZED_WIDTH).read_partition(
        part_group.index, plan.key_partitions
    )
    rows = (found[:, 2] - np.uint64(part_group.start)).astype(np.int64)
    bands = found[:, 1].astype(np.int64)
    out = np.zeros((len(found), SORTED_WIDTH), np.uint64)
    out[:, :2] = found[:, :2]
    signatures = np.zeros((0, packed_words(plan)), np.uint64)
    if len(found):
        for band, keys in enumerate(part_group.band_keys(plan.bands)):
            for step in range(1, EXTRA_SORT_KEYS + 1):
                here = (bands + step) % plan.bands == band
                out[here, 1 + step] = keys[rows[here]]
        out[:, 5] = part_group.shingle_counts()[rows]
        out[:, 6:8] = part_group.digests()[rows]
        signatures = as_words(part_group.packed_signatures(rows))
    out[:, 8] = found[:, 2]
    members = np.column_stack([out, signatures])
    exchange = plan.shuffle(
        "oversized_members", len(plan.oversized_partitions), SORTED_WIDTH + packed_words(plan)
    )
    exchange.write_rows(part_group.index, high_bits(out[:, 0], plan.oversized_bits), members)
    return {}


def oversized_bucket_pairs(plan: ShufflePlan, partition: int) -> dict[str, Any]:
    """Nominate pairs of the crowded buckets of a partition."""
    exchange = plan.shuffle(
        "oversized_members", len(plan.oversized_partitions), SORTED_WIDTH + packed_words(plan)
    )
    rows = exchange.read_partition(partition, plan.part_groups)
    rows = rows[np.lexsort(tuple(rows[:, k] for k in (7, 6, 5, 4, 3, 2, 1, 0)))]
    first, sizes = find_equal_runs(rows[:, 0], rows[:, 1])
    packed = np.ascontiguousarray(rows[:, SORTED_WIDTH:])
    places = nearest_pairs(packed, first, sizes, plan.config.neighbors, WINDOW)
    places = places[places[:, 0] >= 0]
    places = np.unique(np.sort(places, axis=1), axis=0)
    bands = rows[places[:, 0], 1]
    sender = len(plan.key_partitions) + partition
    _send_pairs(plan, sender, rows[:, 8][places], bands)
    possible = sizes * (sizes - 1) // 2
    return {"left_out": int(possible.sum()) - len(places), "candidates": len(places)}


def packed_words(plan: ShufflePlan) -> int:
    """Words of a packed signature."""
    return -(-plan.config.num_permutations // 16)


def oversized_row_bytes(plan: ShufflePlan) -> int:
    """Bytes that `oversized_bucket_pairs` holds per member: its row, twice, and its pairs of places."""
    words = 2 * (SORTED_WIDTH + packed_words(plan)) + INDEX_PAIR_WORDS * (plan.config.neighbors + 1)
    return 8 * words


@jit
def nearest_pairs(packed: U64, first: I64, sizes: I64, n_neighbors: int, window: int) -> I64:
    """Pairs of places: each member of a run with its first, and with the most like it in a window.

    Args:
        packed: uint64[n, words], packed signatures.
        first: int64[runs], where each run starts.
        sizes: int64[runs].
        n_neighbors: how many members each is paired with; of equally similar ones, the first.
        window: members that are compared with each other.

    Returns:
        int64[n * (near + 1), 2]; -1 in rows that stand for no pair.
    """
    n = len(packed)
    out = np.full((n * (n_neighbors + 1), 2), -1)
    at = 0
    best = np.empty(n_neighbors, np.int64)
    score = np.empty(n_neighbors, np.int64)
    for b in range(len(first)):
        end = first[b] + sizes[b]
        for i in range(first[b], end):
            low = first[b] + (i - first[b]) // window * window
            held = 0
            high = min(low + window, end) if n_neighbors > 0 else low
            for j in range(low, high):
                if j == i:
                    continue
                value = matching_values(packed[i], packed[j])
                if held == n_neighbors and value <= score[held - 1]:
                    continue
                k = held if held < n_neighbors else n_neighbors - 1
                while k > 0 and score[k - 1] < value:
                    score[k] = score[k - 1]
                    best[k] = best[k - 1]
                    k -= 1
                score[k] = value
                best[k] = j
                held = min(held + 1, n_neighbors)
            for k in range(held):
                out[at, 0] = i
                out[at, 1] = best[k]
                at += 1
            if i > first[b]:
                out[at, 0] = first[b]
                out[at, 1] = i
                at += 1
    return out


def pair_mappers(plan: ShufflePlan, *, oversized: bool) -> range:
    """Who sends pairs."""
    more = len(plan.oversized_partitions) if oversized else 0
    return range(len(plan.key_partitions) + more)


def receive_pairs(plan: ShufflePlan, partition: int, *, oversized: bool) -> U64:
    """The distinct pairs of a range, each with the first band it was nominated by.

    Returns:
        uint64[n, 3]: smaller document, larger document, band; sorted.
    """
    exchange = plan.shuffle("pairs", plan.n_ranges, PAIR_WIDTH)
    held = np.zeros((0, PAIR_WIDTH), np.uint64)
    waiting: list[U64] = []
    count, room = 0, plan.config.partition_bytes // PAIR_ROW_BYTES
    for words in exchange.iter_slices(partition, pair_mappers(plan, oversized=oversized)):
        # Near-copies share many bands: what is there twice goes before there is too much of it.
        if count + len(words) // PAIR_WIDTH > max(room, 2 * len(held)):
            held, waiting, count = _first_bands([held, *waiting]), [], 0
        waiting.append(words.reshape(-1, PAIR_WIDTH))
        count += len(waiting[-1])
    held = _first_bands([held, *waiting])
    low, high = held[:, 0], held[:, 1]
    return np.column_stack([low, high >> np.uint64(8), high & np.uint64(255)])


def _first_bands(rows: list[U64]) -> U64:
    """Distinct pairs, sorted, each with the first of its bands."""
    found = np.concatenate(rows)
    found = found[np.lexsort((found[:, 1], found[:, 0]))]
    first, _ = find_equal_runs(found[:, 0], found[:, 1] >> np.uint64(8))
    return found[first]


def _send_pairs(plan: ShufflePlan, mapper: int, pairs: U64, band: "int | U64") -> None:
    low, high = pairs.min(axis=1, initial=2**64 - 1), pairs.max(axis=1, initial=0)
    rows = np.column_stack([low, (high << np.uint64(8)) | np.asarray(band, np.uint64)])
    exchange = plan.shuffle("pairs", plan.n_ranges, PAIR_WIDTH)
    exchange.write_rows(mapper, plan.range_index(rows[:, 0]), rows)


def all_pairs(members: U64, first: I64, sizes: I64) -> U64:
    """Every pair of each run: uint64[k, 2]."""
    out = np.empty((int((sizes * (sizes - 1) // 2).sum()), 2), np.uint64)
    _fill_all(np.ascontiguousarray(members), first, sizes, out)
    return out


def bounded_pairs(members: U64, first: I64, sizes: I64, n_references: int, n_neighbors: int) -> U64:
    """The pairs of each run with its first ``n_references`` members, and with the next ``n_neighbors``.

    Returns:
        uint64[k, 2], each pair once.
    """
    none = np.empty((0, 2), np.uint64)
    members = np.ascontiguousarray(members)
    out = np.empty(
        (_fill_bounded(members, first, sizes, n_references, n_neighbors, none), 2), np.uint64
    )
    _fill_bounded(members, first, sizes, n_references, n_neighbors, out)
    return out


@jit
def _fill_all(members: U64, first: I64, sizes: I64, out: U64) -> None:
    k = 0
    for b in range(len(first)):
        for i in range(first[b], first[b] + sizes[b]):
            for j in range(i + 1, first[b] + sizes[b]):
                out[k, 0] = members[i]
                out[k, 1] = members[j]
                k += 1


@jit
def _fill_bounded(
    members: U64, first: I64, sizes: I64, n_references: int, n_neighbors: int, out: U64
) -> int:
    """Fill ``out`` as far as it goes; gives the number of pairs."""
    k = 0
    for b in range(len(first)):
        start = first[b]
        end = start + sizes[b]
        for i in range(start, end):
            reach = end if i - start < n_references else min(end, i + 1 + n_neighbors)
            for j in range(i + 1, reach):
                if k < len(out):
                    out[k, 0] = members[i]
                    out[k, 1] = members[j]
                k += 1
    return k
