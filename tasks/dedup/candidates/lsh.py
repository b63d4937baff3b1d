"""Locality-sensitive hashing: documents that share a band's key become candidate pairs.

In a bucket of up to ``exhaustive_bucket_size`` members every pair is a candidate. A larger bucket is
sorted by its members' other keys, as in an LSH forest (Bawa, Condie, Ganesan: WWW 2005), so that
similar members are close to each other, and is processed in windows: each member is paired with the
``neighbors`` in its window whose b-bit signatures match its own best, and with the first member of
the bucket. The cost is linear in the members. Pairs that are left out this way are counted.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from infra.compute.arrays import I64, U64
from infra.compute.jit import jit
from infra.compute.shuffle import group_by_partition
from infra.minhash.b_bit import as_words, matching_values
from tasks.dedup.candidates.exact import receive_groups
from tasks.dedup.part_groups import PartGroup
from tasks.dedup.shuffle_plan import (
    PAIR_ROW_BYTES,
    DedupPlan,
    duplicate_indices,
    find_equal_runs,
    high_bits,
)

# Rows of keys: key, document. Rows of pairs: smaller document, larger << 8 | band.
KEY_WIDTH, PAIR_WIDTH = 2, 2
# Rows of members of oversized buckets: key, band, document. To be sorted: key, band, three further
# keys, shingles, digest halves, document, then the b-bit signature.
OVERSIZED_WIDTH, SORTED_WIDTH = 3, 9
# Further keys by which an oversized bucket is sorted.
EXTRA_SORT_KEYS = 3
# Words held per pair of indices: the pair, its filtered copy, and both copies of a sort.
INDEX_PAIR_WORDS = 8
# Members of an oversized bucket that are compared with each other.
WINDOW = 2048


def send_keys(plan: DedupPlan, part_group: PartGroup) -> dict[str, Any]:
    """Send the keys of a part group; of each exact group only those of its first document."""
    chosen = part_group.present() & (part_group.shingle_counts() > 0)
    groups = receive_groups(plan, part_group)
    duplicates = groups[groups[:, 0] != groups[:, 1], 0]
    chosen[part_group.row_of(duplicates)] = False
    rows = np.flatnonzero(chosen)
    numbers = (rows + part_group.start).astype(np.uint64)
    runs: list[U64] = []
    bounds = np.zeros(1, np.int64)
    for band in part_group.band_keys(plan.bands):
        keys = band[rows]
        ordered, band_bounds = group_by_partition(
            high_bits(keys, plan.key_bits), np.column_stack([keys, numbers]), 1 << plan.key_bits
        )
        runs.append(ordered.reshape(-1))
        bounds = np.append(bounds, bounds[-1] + band_bounds[1:])
    shuffle = plan.shuffle("keys", len(plan.key_partitions), KEY_WIDTH)
    shuffle.write_sorted(part_group.index, runs, bounds * KEY_WIDTH)
    return {"minhashed": len(rows)}


def bucket_pairs(plan: DedupPlan, partition: int) -> dict[str, Any]:
    """Send the candidate pairs of a partition's buckets; send oversized buckets on."""
    band = partition >> plan.key_bits
    shuffle = plan.shuffle("keys", len(plan.key_partitions), KEY_WIDTH)
    rows = shuffle.read_partition(partition, plan.ranges)
    rows = rows[duplicate_indices(rows[:, 0])]
    first, sizes = find_equal_runs(rows[:, 0])
    small = sizes <= plan.config.exhaustive_bucket_size
    pairs = all_pairs(rows[:, 1], first[small], sizes[small])
    _send_pairs(plan, partition, pairs, band)
    members = rows[np.repeat(~small, sizes)]
    tagged = np.column_stack([members[:, 0], np.full(len(members), band, np.uint64), members[:, 1]])
    plan.shuffle_to_ranges("oversized", OVERSIZED_WIDTH).write_rows(
        partition, plan.range_of(tagged[:, 2]), tagged
    )
    return {
        "buckets": len(sizes),
        "largest": int(sizes.max(initial=0)),
        "oversized": int((~small).sum()),
        "oversized_members": len(members),
        "candidates": len(pairs),
    }


def send_oversized_members(plan: DedupPlan, part_group: PartGroup) -> dict[str, Any]:
    """Send the members of oversized buckets in a part group on, with their sort keys."""
    members = plan.shuffle_to_ranges("oversized", OVERSIZED_WIDTH).read_partition(
        part_group.index, plan.key_partitions
    )
    rows = part_group.row_of(members[:, 2])
    bands = members[:, 1].astype(np.int64)
    out = np.zeros((len(members), SORTED_WIDTH), np.uint64)
    out[:, :2] = members[:, :2]
    signatures = np.zeros((0, b_bit_words(plan)), np.uint64)
    if len(members):
        for band, keys in enumerate(part_group.band_keys(plan.bands)):
            for step in range(1, EXTRA_SORT_KEYS + 1):
                chosen = (bands + step) % plan.bands == band
                out[chosen, 1 + step] = keys[rows[chosen]]
        out[:, 5] = part_group.shingle_counts()[rows]
        out[:, 6:8] = part_group.digests()[rows]
        signatures = as_words(part_group.b_bit_signatures(rows))
    out[:, 8] = members[:, 2]
    shuffle = plan.shuffle(
        "oversized_members", len(plan.oversized_partitions), SORTED_WIDTH + b_bit_words(plan)
    )
    partitions = high_bits(out[:, 0], plan.oversized_bits)
    shuffle.write_rows(part_group.index, partitions, np.column_stack([out, signatures]))
    return {}


def oversized_bucket_pairs(plan: DedupPlan, partition: int) -> dict[str, Any]:
    """Send candidate pairs of the oversized buckets of a partition."""
    shuffle = plan.shuffle(
        "oversized_members", len(plan.oversized_partitions), SORTED_WIDTH + b_bit_words(plan)
    )
    rows = shuffle.read_partition(partition, plan.ranges)
    rows = rows[np.lexsort(tuple(rows[:, k] for k in (7, 6, 5, 4, 3, 2, 1, 0)))]
    first, sizes = find_equal_runs(rows[:, 0], rows[:, 1])
    packed = np.ascontiguousarray(rows[:, SORTED_WIDTH:])
    pairs = nearest_pairs(packed, first, sizes, plan.config.neighbors, WINDOW)
    pairs = pairs[pairs[:, 0] >= 0]
    pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    bands = rows[pairs[:, 0], 1]
    mapper = len(plan.key_partitions) + partition
    _send_pairs(plan, mapper, rows[:, 8][pairs], bands)
    possible = sizes * (sizes - 1) // 2
    return {"uncompared": int(possible.sum()) - len(pairs), "candidates": len(pairs)}


def b_bit_words(plan: DedupPlan) -> int:
    """Return the number of words of a b-bit signature."""
    return -(-plan.config.num_permutations // 16)


def oversized_row_bytes(plan: DedupPlan) -> int:
    """Return the bytes that `oversized_bucket_pairs` holds per member."""
    # Two copies of the member's row, and its pairs of indices.
    words = 2 * (SORTED_WIDTH + b_bit_words(plan)) + INDEX_PAIR_WORDS * (plan.config.neighbors + 1)
    return 8 * words


@jit
def nearest_pairs(packed: U64, first: I64, sizes: I64, n_neighbors: int, window: int) -> I64:
    """Pair each member of a run with the run's first, and with the most similar in its window.

    Args:
        packed: uint64[n, words], b-bit signatures.
        first: int64[runs], where each run starts.
        sizes: int64[runs], members of each run.
        n_neighbors: how many members each is paired with; of equally similar ones, the first.
        window: members that are compared with each other.

    Returns:
        Pairs of indices, int64[n * (n_neighbors + 1), 2]; unused rows hold -1.
    """
    n = len(packed)
    out = np.full((n * (n_neighbors + 1), 2), -1)
    n_pairs = 0
    best = np.empty(n_neighbors, np.int64)
    score = np.empty(n_neighbors, np.int64)
    for b in range(len(first)):
        end = first[b] + sizes[b]
        for i in range(first[b], end):
            low = first[b] + (i - first[b]) // window * window
            n_best = 0
            high = min(low + window, end) if n_neighbors > 0 else low
            for j in range(low, high):
                if j == i:
                    continue
                value = matching_values(packed[i], packed[j])
                if n_best == n_neighbors and value <= score[n_best - 1]:
                    continue
                k = n_best if n_best < n_neighbors else n_neighbors - 1
                while k > 0 and score[k - 1] < value:
                    score[k] = score[k - 1]
                    best[k] = best[k - 1]
                    k -= 1
                score[k] = value
                best[k] = j
                n_best = min(n_best + 1, n_neighbors)
            for k in range(n_best):
                out[n_pairs, 0] = i
                out[n_pairs, 1] = best[k]
                n_pairs += 1
            if i > first[b]:
                out[n_pairs, 0] = first[b]
                out[n_pairs, 1] = i
                n_pairs += 1
    return out


def pair_mappers(plan: DedupPlan, *, oversized: bool) -> range:
    """Return the mappers of candidate pairs."""
    return range(len(plan.key_partitions) + oversized * len(plan.oversized_partitions))


def receive_pairs(plan: DedupPlan, partition: int, mappers: Sequence[int]) -> U64:
    """Read the distinct candidate pairs of a range: smaller document, larger document, first band.

    The first band is the first one that both share. The rows are sorted.
    """
    shuffle = plan.shuffle("pairs", plan.n_pair_ranges, PAIR_WIDTH)
    pairs = np.zeros((0, PAIR_WIDTH), np.uint64)
    pending: list[U64] = []
    n_pending, max_pending = 0, plan.config.partition_bytes // PAIR_ROW_BYTES
    for words in shuffle.iter_slices(partition, mappers):
        # Near-duplicates share many bands: repeated pairs are dropped before they fill the memory.
        if n_pending + len(words) // PAIR_WIDTH > max(max_pending, 2 * len(pairs)):
            pairs, pending, n_pending = _first_bands([pairs, *pending]), [], 0
        pending.append(words.reshape(-1, PAIR_WIDTH))
        n_pending += len(pending[-1])
    pairs = _first_bands([pairs, *pending])
    low, high = pairs[:, 0], pairs[:, 1]
    return np.column_stack([low, high >> np.uint64(8), high & np.uint64(255)])


def _first_bands(rows: list[U64]) -> U64:
    """Return the distinct pairs, sorted, each with the first of its bands."""
    pairs = np.concatenate(rows)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    first, _ = find_equal_runs(pairs[:, 0], pairs[:, 1] >> np.uint64(8))
    return pairs[first]


def _send_pairs(plan: DedupPlan, mapper: int, pairs: U64, band: "int | U64") -> None:
    low, high = pairs.min(axis=1, initial=2**64 - 1), pairs.max(axis=1, initial=0)
    rows = np.column_stack([low, (high << np.uint64(8)) | np.asarray(band, np.uint64)])
    shuffle = plan.shuffle("pairs", plan.n_pair_ranges, PAIR_WIDTH)
    shuffle.write_rows(mapper, plan.pair_range_of(rows[:, 0]), rows)


def all_pairs(members: U64, first: I64, sizes: I64) -> U64:
    """Return every pair of each run: uint64[k, 2]."""
    out = np.empty((int((sizes * (sizes - 1) // 2).sum()), 2), np.uint64)
    _fill_pairs(np.ascontiguousarray(members), first, sizes, int(sizes.max(initial=0)), 0, out)
    return out


def bounded_pairs(members: U64, first: I64, sizes: I64, n_references: int, n_neighbors: int) -> U64:
    """Pair each member of a run with the run's first members and with the members that follow it.

    Args:
        members: uint64[n].
        first: int64[runs], where each run starts.
        sizes: int64[runs].
        n_references: how many of the first members are paired with all others.
        n_neighbors: how many of the following members each is paired with.

    Returns:
        uint64[k, 2], each pair once.
    """
    none = np.empty((0, 2), np.uint64)
    members = np.ascontiguousarray(members)
    n_pairs = _fill_pairs(members, first, sizes, n_references, n_neighbors, none)
    out = np.empty((n_pairs, 2), np.uint64)
    _fill_pairs(members, first, sizes, n_references, n_neighbors, out)
    return out


@jit
def _fill_pairs(
    members: U64, first: I64, sizes: I64, n_references: int, n_neighbors: int, out: U64
) -> int:
    """Fill ``out`` up to its length; return the number of pairs."""
    k = 0
    for b in range(len(first)):
        start = first[b]
        end = start + sizes[b]
        for i in range(start, end):
            stop = end if i - start < n_references else min(end, i + 1 + n_neighbors)
            for j in range(i + 1, stop):
                if k < len(out):
                    out[k, 0] = members[i]
                    out[k, 1] = members[j]
                k += 1
    return k
