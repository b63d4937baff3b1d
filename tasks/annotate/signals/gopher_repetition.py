"""Gopher's repetition of n-grams: how much of a text its frequent and repeated n-grams fill.

An n-gram can only be repeated if the (n-1)-grams it begins and ends with are. So every level looks
only at the positions that survived the one before it, and natural text, where few 5-grams repeat,
costs little more than its 2-grams. The result equals counting every n-gram at every position.
"""

import numpy as np
import numpy.typing as npt

from infra.compute.jit import jit
from tasks.annotate.signals.tokens import Hashes, fmix64

Ints = npt.NDArray[np.int32]

MAX_N = 10
TOP_NGRAM_SIZES = (2, 3, 4)
DUP_NGRAM_SIZES = (5, 6, 7, 8, 9, 10)


@jit
def table_size(entries: int) -> int:
    """The power of two that holds ``entries`` keys at most half full."""
    size = 8
    while size < 2 * entries:
        size *= 2
    return size


@jit
def _intern(hashes: Hashes, count: int, table: Ints, firsts: Ints, classes: Ints) -> int:
    """Number equal tokens alike, in order of first occurrence; return how many numbers there are."""
    size = table_size(count)
    table[:size] = 0
    mask = np.uint64(size - 1)
    distinct = 0
    for i in range(count):
        value = hashes[i]
        slot = int(np.int64(value & mask))
        while True:
            known = int(table[slot]) - 1
            if known < 0:
                firsts[distinct] = i
                distinct += 1
                table[slot] = distinct
                classes[i] = distinct - 1
                break
            if hashes[firsts[known]] == value:
                classes[i] = known
                break
            slot = (slot + 1) & (size - 1)
    return distinct


@jit
def _keep_repeated(positions: Ints, classes: Ints, count: int, distinct: int, tally: Ints) -> int:
    """Drop the positions whose class occurs once; return how many are left."""
    tally[:distinct] = 0
    for j in range(count):
        tally[classes[j]] += 1
    kept = 0
    for j in range(count):
        if tally[classes[j]] > 1:
            positions[kept] = positions[j]
            classes[kept] = classes[j]
            kept += 1
    return kept


@jit
def _extend(
    positions: Ints,
    classes: Ints,
    count: int,
    table: Ints,
    keys: Hashes,
) -> tuple[int, int]:
    """From repeated (n-1)-grams to the n-grams that two adjoining ones make, in place.

    Returns:
        ``(positions left, distinct classes)``; classes are numbered by first occurrence.
    """
    size = table_size(count)
    table[:size] = 0
    distinct = 0
    kept = 0
    for j in range(count - 1):
        if positions[j + 1] != positions[j] + 1:
            continue
        key = (np.uint64(classes[j]) << np.uint64(32)) | np.uint64(classes[j + 1])
        slot = int(np.int64(fmix64(key) & np.uint64(size - 1)))
        while True:
            known = int(table[slot]) - 1
            if known < 0:
                keys[distinct] = key
                known = distinct
                distinct += 1
                table[slot] = distinct
                break
            if keys[known] == key:
                break
            slot = (slot + 1) & (size - 1)
        positions[kept] = positions[j]
        classes[kept] = known
        kept += 1
    return kept, distinct


@jit
def _top_ngram_chars(
    n: int,
    positions: Ints,
    classes: Ints,
    kept: int,
    distinct: int,
    tally: Ints,
    char_offsets: npt.NDArray[np.int64],
) -> int:
    """Characters of the most frequent n-gram, of equals the first, times its occurrences."""
    best = 1
    winner = -1
    for c in range(distinct):
        if tally[c] > best:
            best = int(tally[c])
            winner = c
    at = 0  # when none is repeated, the first n-gram of the text is the most frequent one
    for j in range(kept):
        if classes[j] == winner:
            at = int(positions[j])
            break
    return int(best * (char_offsets[at + n] - char_offsets[at] + n - 1))


@jit
def _dup_ngram_chars(
    n: int,
    positions: Ints,
    classes: Ints,
    kept: int,
    distinct: int,
    seen: Ints,
    char_offsets: npt.NDArray[np.int64],
) -> int:
    """Characters of the n-grams seen before, reading from the left and skipping each one found."""
    seen[:distinct] = 0
    free = 0
    total = 0
    for j in range(kept):
        at = int(positions[j])
        if at < free:
            continue
        if seen[classes[j]]:
            total += char_offsets[at + n] - char_offsets[at]
            free = at + n
        else:
            seen[classes[j]] = 1
    return total


@jit
def ngram_repetition(
    hashes: Hashes,
    char_offsets: npt.NDArray[np.int64],
    count: int,
    scratch: npt.NDArray[np.int32],
    table: Ints,
    keys: Hashes,
    out: npt.NDArray[np.int64],
) -> None:
    """Characters in top n-grams (n = 2..4) and in duplicated n-grams (n = 5..10).

    Args:
        hashes: the tokens' hashes, at least ``count``.
        char_offsets: int64[count + 1], characters of all tokens before each one.
        count: number of tokens.
        scratch: int32[3, >= count], scratch.
        table: int32[>= table_size(count)], scratch.
        keys: uint64[>= count], scratch.
        out: int64[9], filled with the characters for n = 2, 3, ..., 10; 0 for a text that is
            shorter than n tokens.
    """
    positions, classes, tally = scratch[0], scratch[1], scratch[2]
    distinct = _intern(hashes, count, table, tally, classes)
    for i in range(count):
        positions[i] = i
    kept = _keep_repeated(positions, classes, count, distinct, tally)
    for n in range(2, MAX_N + 1):
        kept, distinct = _extend(positions, classes, kept, table, keys)
        kept = _keep_repeated(positions, classes, kept, distinct, tally)
        if count < n:
            out[n - 2] = 0
        elif n <= 4:
            out[n - 2] = _top_ngram_chars(
                n, positions, classes, kept, distinct, tally, char_offsets
            )
        else:
            out[n - 2] = _dup_ngram_chars(
                n, positions, classes, kept, distinct, tally, char_offsets
            )
