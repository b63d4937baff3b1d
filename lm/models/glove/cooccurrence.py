"""Count how often words co-occur: for each pair of words the sum of 1 / distance.

Counts are whole numbers of ``1 / ONE``, so that sums do not depend on their order. A cell of the matrix is counted
for its words in ascending order; the matrix is symmetric.
"""

import numpy as np

from infra.compute.arrays import I32, I64, U64
from infra.compute.jit import jit

ONE = 1 << 28  # the count of a pair at distance 1
DISTANCE_BITS = 10
KEY_BITS = 64 - DISTANCE_BITS  # of a pair: less than 2 ** 27 words


def count_pairs(words: I32, first: int, window: int, vocab_size: int) -> U64:
    """Count the pairs of a piece of the stream: uint64[pairs, 2] of keys, ascending, and counts.

    Args:
        words: int32[n]; negative at the end of a document.
        first: a pair is counted if its second word is at this index or later.
        window: maximum distance.
        vocab_size: V; the key of words a <= b is a * V + b.
    """
    pairs = _list_pairs(words, first, window, vocab_size)
    pairs.sort()
    return _sum_runs(pairs >> np.uint64(DISTANCE_BITS), _counts(pairs, window))


def merge_pairs(rows: U64) -> U64:
    """Add up rows of keys and counts with the same key; uint64[pairs, 2], ascending."""
    order = np.argsort(rows[:, 0], kind="stable")
    return _sum_runs(rows[order, 0], rows[order, 1])


def _counts(pairs: U64, window: int) -> U64:
    by_distance = np.array([0, *(round(ONE / d) for d in range(1, window + 1))], np.uint64)
    counts: U64 = by_distance[(pairs & np.uint64((1 << DISTANCE_BITS) - 1)).astype(np.int64)]
    return counts


@jit
def _list_pairs(words: I32, first: int, window: int, vocab_size: int) -> U64:
    """Return a number per pair: its key, and its distance in the lowest bits."""
    pairs = np.empty((len(words) - first) * window, np.uint64)
    n = 0
    for i in range(first, len(words)):
        if words[i] < 0:
            continue
        for distance in range(1, min(window, i) + 1):
            other = words[i - distance]
            if other < 0:
                break
            low, high = min(words[i], other), max(words[i], other)
            key = np.int64(low) * vocab_size + np.int64(high)
            pairs[n] = (np.uint64(key) << np.uint64(DISTANCE_BITS)) | np.uint64(distance)
            n += 1
    return pairs[:n]


@jit
def _sum_runs(keys: U64, counts: U64) -> U64:
    """Add up the counts of equal keys, which are adjacent: uint64[distinct, 2]."""
    distinct = 0
    for i in range(len(keys)):
        distinct += i == 0 or keys[i] != keys[i - 1]
    rows = np.zeros((distinct, 2), np.uint64)
    at = -1
    for i in range(len(keys)):
        if i == 0 or keys[i] != keys[i - 1]:
            at += 1
            rows[at, 0] = keys[i]
        rows[at, 1] += counts[i]
    return rows


def cells_of_pairs(rows: U64, vocab_size: int) -> tuple[I64, I64, U64]:
    """Return row, column and count of each cell.

    A pair counts in the cells of both words. Two occurrences of one word are each in the context of the
    other, so that its own cell has their count twice, as in the authors' program.
    """
    low, high = (part.astype(np.int64) for part in np.divmod(rows[:, 0], np.uint64(vocab_size)))
    different = low != high
    return (
        np.concatenate([low, high[different]]),
        np.concatenate([high, low[different]]),
        np.concatenate([np.where(different, rows[:, 1], 2 * rows[:, 1]), rows[different, 1]]),
    )
