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

from infra.compute.jit import kernel
from infra.compute.shuffle import scatter
from tasks.dedup.candidates.exact import received_groups
from tasks.dedup.minhash.b_bit import agreement, wide
from tasks.dedup.part_groups import Block
from tasks.dedup.shuffle_plan import PAIR_ROW, Layout, high_bits, repeated, runs

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

# Rows of the exchanges. Keys: key, document. Pairs: smaller document, larger << 8 | band.
KEYS, PAIRS = 2, 2
# Members of crowded buckets: key, band, document; then with what orders them.
CROWDED, ORDERED = 3, 9  # and, after those nine, the packed signature
FOLLOWING = 3  # further keys by which a crowded bucket is ordered
PLACES = 8  # words for a pair of places: itself, what is left of it, both copies of a sort
WINDOW = 2048  # members of a crowded bucket that are looked at together


def send_keys(layout: Layout, block: Block) -> dict[str, Any]:
    """Send a block's keys to the partitions of keys; of an exact group, its first document's."""
    chosen = block.present() & (block.shingles() > 0)
    groups = received_groups(layout, block)
    copies = groups[groups[:, 0] != groups[:, 1], 0]
    chosen[(copies - np.uint64(block.start)).astype(np.int64)] = False
    rows = np.flatnonzero(chosen)
    numbers = (rows + block.start).astype(np.uint64)
    pieces: list[U64] = []
    bounds = np.zeros(1, np.int64)
    for band in block.keys(layout.bands):
        keys = band[rows]
        ordered, own = scatter(
            high_bits(keys, layout.key_bits),
            np.column_stack([keys, numbers]),
            1 << layout.key_bits,
        )
        pieces.append(ordered.reshape(-1))
        bounds = np.append(bounds, bounds[-1] + own[1:])
    exchange = layout.exchange("keys", len(layout.key_partitions), KEYS)
    exchange.send_runs(block.index, pieces, bounds * KEYS)
    return {"signed": len(rows)}


def pair(layout: Layout, partition: int) -> dict[str, Any]:
    """Nominate the pairs of a partition's buckets; pass crowded buckets on."""
    band = partition >> layout.key_bits
    exchange = layout.exchange("keys", len(layout.key_partitions), KEYS)
    rows = exchange.receive(partition, layout.blocks)
    rows = rows[repeated(rows[:, 0])]
    first, sizes = runs(rows[:, 0])
    small = sizes <= layout.config.bucket
    pairs = all_pairs(rows[:, 1], first[small], sizes[small])
    _send_pairs(layout, partition, pairs, band)
    members = rows[np.repeat(~small, sizes)]
    tagged = np.column_stack([members[:, 0], np.full(len(members), band, np.uint64), members[:, 1]])
    layout.to_blocks("crowded", CROWDED).send(partition, layout.block_of(tagged[:, 2]), tagged)
    return {
        "buckets": len(sizes),
        "largest": int(sizes.max(initial=0)),
        "crowded": int((~small).sum()),
        "crowded_members": len(members),
        "nominated": len(pairs),
    }


def order_members(layout: Layout, block: Block) -> dict[str, Any]:
    """Send a block's members of crowded buckets on, with what orders them there."""
    found = layout.to_blocks("crowded", CROWDED).receive(block.index, layout.key_partitions)
    rows = (found[:, 2] - np.uint64(block.start)).astype(np.int64)
    bands = found[:, 1].astype(np.int64)
    out = np.zeros((len(found), ORDERED), np.uint64)
    out[:, :2] = found[:, :2]
    signatures = np.zeros((0, packed_words(layout)), np.uint64)
    if len(found):
        for band, keys in enumerate(block.keys(layout.bands)):
            for step in range(1, FOLLOWING + 1):
                here = (bands + step) % layout.bands == band
                out[here, 1 + step] = keys[rows[here]]
        out[:, 5] = block.shingles()[rows]
        out[:, 6:8] = block.digests()[rows]
        signatures = wide(block.sketches(rows))
    out[:, 8] = found[:, 2]
    members = np.column_stack([out, signatures])
    exchange = layout.exchange(
        "ordered", len(layout.crowded_partitions), ORDERED + packed_words(layout)
    )
    exchange.send(block.index, high_bits(out[:, 0], layout.crowded_bits), members)
    return {}


def pair_crowded(layout: Layout, partition: int) -> dict[str, Any]:
    """Nominate pairs of the crowded buckets of a partition."""
    exchange = layout.exchange(
        "ordered", len(layout.crowded_partitions), ORDERED + packed_words(layout)
    )
    rows = exchange.receive(partition, layout.blocks)
    rows = rows[np.lexsort(tuple(rows[:, k] for k in (7, 6, 5, 4, 3, 2, 1, 0)))]
    first, sizes = runs(rows[:, 0], rows[:, 1])
    packed = np.ascontiguousarray(rows[:, ORDERED:])
    places = nearest(packed, first, sizes, layout.config.neighbours, WINDOW)
    places = places[places[:, 0] >= 0]
    places = np.unique(np.sort(places, axis=1), axis=0)
    bands = rows[places[:, 0], 1]
    sender = len(layout.key_partitions) + partition
    _send_pairs(layout, sender, rows[:, 8][places], bands)
    possible = sizes * (sizes - 1) // 2
    return {"left_out": int(possible.sum()) - len(places), "nominated": len(places)}


def packed_words(layout: Layout) -> int:
    """Words of a packed signature."""
    return -(-layout.config.permutations // 16)


def crowded_row(layout: Layout) -> int:
    """Bytes that `pair_crowded` holds per member: its row, twice, and its pairs of places."""
    words = 2 * (ORDERED + packed_words(layout)) + PLACES * (layout.config.neighbours + 1)
    return 8 * words


@kernel
def nearest(packed: U64, first: I64, sizes: I64, near: int, window: int) -> I64:
    """Pairs of places: each member of a run with its first, and with the most like it in a window.

    Args:
        packed: uint64[n, words], packed signatures.
        first: int64[runs], where each run starts.
        sizes: int64[runs].
        near: how many members each is paired with; of equally similar ones, the first.
        window: members that are compared with each other.

    Returns:
        int64[n * (near + 1), 2]; -1 in rows that stand for no pair.
    """
    n = len(packed)
    out = np.full((n * (near + 1), 2), -1)
    at = 0
    best = np.empty(near, np.int64)
    score = np.empty(near, np.int64)
    for b in range(len(first)):
        end = first[b] + sizes[b]
        for i in range(first[b], end):
            low = first[b] + (i - first[b]) // window * window
            held = 0
            high = min(low + window, end) if near > 0 else low
            for j in range(low, high):
                if j == i:
                    continue
                value = agreement(packed[i], packed[j])
                if held == near and value <= score[held - 1]:
                    continue
                k = held if held < near else near - 1
                while k > 0 and score[k - 1] < value:
                    score[k] = score[k - 1]
                    best[k] = best[k - 1]
                    k -= 1
                score[k] = value
                best[k] = j
                held = min(held + 1, near)
            for k in range(held):
                out[at, 0] = i
                out[at, 1] = best[k]
                at += 1
            if i > first[b]:
                out[at, 0] = first[b]
                out[at, 1] = i
                at += 1
    return out


def pair_senders(layout: Layout, *, crowded: bool) -> range:
    """Who sends pairs."""
    more = len(layout.crowded_partitions) if crowded else 0
    return range(len(layout.key_partitions) + more)


def received_pairs(layout: Layout, partition: int, *, crowded: bool) -> U64:
    """The distinct pairs of a range, each with the first band it was nominated by.

    Returns:
        uint64[n, 3]: smaller document, larger document, band; sorted.
    """
    exchange = layout.exchange("pairs", layout.ranges, PAIRS)
    held = np.zeros((0, PAIRS), np.uint64)
    waiting: list[U64] = []
    count, room = 0, layout.config.partition_bytes // PAIR_ROW
    for words in exchange.slices(partition, pair_senders(layout, crowded=crowded)):
        # Near-copies share many bands: what is there twice goes before there is too much of it.
        if count + len(words) // PAIRS > max(room, 2 * len(held)):
            held, waiting, count = _first_bands([held, *waiting]), [], 0
        waiting.append(words.reshape(-1, PAIRS))
        count += len(waiting[-1])
    held = _first_bands([held, *waiting])
    low, high = held[:, 0], held[:, 1]
    return np.column_stack([low, high >> np.uint64(8), high & np.uint64(255)])


def _first_bands(rows: list[U64]) -> U64:
    """Distinct pairs, sorted, each with the first of its bands."""
    found = np.concatenate(rows)
    found = found[np.lexsort((found[:, 1], found[:, 0]))]
    first, _ = runs(found[:, 0], found[:, 1] >> np.uint64(8))
    return found[first]


def _send_pairs(layout: Layout, sender: int, pairs: U64, band: "int | U64") -> None:
    low, high = pairs.min(axis=1, initial=2**64 - 1), pairs.max(axis=1, initial=0)
    rows = np.column_stack([low, (high << np.uint64(8)) | np.asarray(band, np.uint64)])
    exchange = layout.exchange("pairs", layout.ranges, PAIRS)
    exchange.send(sender, layout.range_of(rows[:, 0]), rows)


def all_pairs(members: U64, first: I64, sizes: I64) -> U64:
    """Every pair of each run: uint64[k, 2]."""
    out = np.empty((int((sizes * (sizes - 1) // 2).sum()), 2), np.uint64)
    _fill_all(np.ascontiguousarray(members), first, sizes, out)
    return out


def bounded_pairs(members: U64, first: I64, sizes: I64, hubs: int, near: int) -> U64:
    """The pairs of each run with its first ``hubs`` members, and with the next ``near``.

    Returns:
        uint64[k, 2], each pair once.
    """
    none = np.empty((0, 2), np.uint64)
    members = np.ascontiguousarray(members)
    out = np.empty((_fill_bounded(members, first, sizes, hubs, near, none), 2), np.uint64)
    _fill_bounded(members, first, sizes, hubs, near, out)
    return out


@kernel
def _fill_all(members: U64, first: I64, sizes: I64, out: U64) -> None:
    k = 0
    for b in range(len(first)):
        for i in range(first[b], first[b] + sizes[b]):
            for j in range(i + 1, first[b] + sizes[b]):
                out[k, 0] = members[i]
                out[k, 1] = members[j]
                k += 1


@kernel
def _fill_bounded(members: U64, first: I64, sizes: I64, hubs: int, near: int, out: U64) -> int:
    """Fill ``out`` as far as it goes; gives the number of pairs."""
    k = 0
    for b in range(len(first)):
        start = first[b]
        end = start + sizes[b]
        for i in range(start, end):
            reach = end if i - start < hubs else min(end, i + 1 + near)
            for j in range(i + 1, reach):
                if k < len(out):
                    out[k, 0] = members[i]
                    out[k, 1] = members[j]
                k += 1
    return k
