"""Count n-grams: one pass over sorted windows gives the counts of all orders.

The windows may be any range of all of them whose bounds do not divide windows with the same first
two ids. Then all windows of an n-gram of order 2 or higher are in one range, with all its left
neighbors, and all that is counted of it is final; only sums per first id have contributions of several
ranges.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from infra.compute.arrays import I16, I32, I64, U64, Bools
from infra.compute.jit import jit
from lm.models.ngram.windows import WindowFormat


@dataclass(frozen=True)
class OrderCounts:
    """The n-grams of one order, sorted by their ids.

    Attributes:
        parents: int64[n]; the n-gram of the first k - 1 ids: its index in the counts of order k - 1 of
            the same range, or of order 2 its id.
        words: int32[n]; the last id.
        counts: int64[n]; of the highest order, and of n-grams at the beginning of a document, how
            often it occurs; of others its number of distinct left neighbors (Kneser & Ney 1995).
        kept: bool[n]; False if it is pruned, by how often it occurs.
    """

    parents: I64
    words: I32
    counts: I64
    kept: Bools


def count_windows(
    rows: U64, window: WindowFormat, order: int, prune: Sequence[int]
) -> list[OrderCounts]:
    """Count the n-grams of orders 2 to ``order`` of windows, which are reordered.

    Args:
        rows: uint64[n, width], in any order.
        window: their format, of at least ``order`` ids.
        order: the highest order.
        prune: for each order from 1 on; n-grams that occur at most so often are pruned.
    """
    ids = window.unpack(window.sort(rows))
    words, left = ids[:-1], ids[-1]
    shared, lengths = _compare_neighbors(words, window.eos)
    nodes = words[0].astype(np.int64)
    seen = np.empty(window.vocab_size, np.int64)
    result = []
    for k in range(2, order + 1):
        seen[:] = -1
        parents, last, occurrences, neighbors = _count_order(
            k, words, left, shared, lengths, nodes, seen, window.eos
        )
        counts = occurrences if k == order else neighbors
        result.append(OrderCounts(parents, last, counts, occurrences > prune[k - 1]))
    return result


@jit
def _compare_neighbors(words: I32, eos: int) -> tuple[I16, I16]:
    """Return how many leading ids each window shares with the one before, and its number of ids."""
    size, n = words.shape
    shared, lengths = np.zeros(n, np.int16), np.full(n, size, np.int16)
    for i in range(n):
        if i:
            while shared[i] < size and words[shared[i], i] == words[shared[i], i - 1]:
                shared[i] += 1
        for column in range(1, size):
            if words[column, i] == eos:
                lengths[i] = column + 1
                break
    return shared, lengths


@jit
def _count_order(
    k: int, words: I32, left: I32, shared: I16, lengths: I16, nodes: I64, seen: I64, eos: int
) -> tuple[I64, I32, I64, I64]:
    """Return the parent, last id, occurrences and left neighbors of each n-gram of order ``k``.

    ``nodes`` holds the n-gram of order k - 1 that each window begins with, and receives that of
    order k. ``seen`` holds -1 for each id, and is used up.
    """
    total = 0
    for i in range(len(nodes)):
        total += lengths[i] >= k and shared[i] < k
    parents, last = np.empty(total, np.int64), np.empty(total, np.int32)
    occurrences, neighbors = np.zeros(total, np.int64), np.zeros(total, np.int64)
    node = -1
    for i in range(len(nodes)):
        if lengths[i] < k:
            continue
        if shared[i] < k:
            node += 1
            parents[node], last[node] = nodes[i], words[k - 1, i]
        nodes[i] = node
        occurrences[node] += 1
        if words[0, i] == eos:
            neighbors[node] += 1
        elif seen[left[i]] != node:
            seen[left[i]] = node
            neighbors[node] += 1
    return parents, last, occurrences, neighbors


def count_first_order(orders: Sequence[OrderCounts], vocab_size: int) -> I64:
    """Return the number of distinct left neighbors of each id: its share of this range, int64[V]."""
    return np.bincount(orders[0].words, minlength=vocab_size).astype(np.int64)


def count_ids(rows: U64, window: WindowFormat) -> I64:
    """Return how often each id occurs: int64[V]."""
    return np.bincount(window.unpack(rows)[1], minlength=window.vocab_size).astype(np.int64)
