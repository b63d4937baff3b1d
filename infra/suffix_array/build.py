"""Sort the suffixes of a sequence of tokens.

Three passes of a counting sort put the suffixes in the order of their first three tokens. Then each round
doubles the number of tokens by which they are sorted: the rank of suffix ``s + h`` is the key of suffix
``s`` (Larsson & Sadakane 2007, "Faster suffix sorting", sections 3 and 4). So text that repeats itself costs
a factor of the logarithm of the repetition's length, and nothing depends on the machine.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from infra.compute.jit import jit

FIRST_TOKENS = 3  # by which suffixes are sorted before ranks are doubled
MAX_TOKENS = 2**31 - 1
INSERTION = 12  # groups up to this size are sorted by insertion

Tokens = npt.NDArray[Any]
Positions = npt.NDArray[np.int32]


def build_suffix_array(tokens: Tokens) -> Positions:
    """Return the positions of all suffixes in their lexicographic order, int32[n].

    A suffix that is the beginning of another one comes before it. Memory: 20 bytes per token.

    Raises:
        ValueError: if there are 2^31 tokens or more.
    """
    if len(tokens) > MAX_TOKENS:
        raise ValueError(f"{len(tokens):,} tokens; a suffix array has at most {MAX_TOKENS:,}")
    if len(tokens) == 0:
        return np.zeros(0, np.int32)
    suffixes = _sort_by_first(tokens, int(tokens.max()) + 2)
    ranks = np.empty(len(tokens), np.int32)
    _rank_by_first(tokens, suffixes, ranks)
    _double(suffixes, ranks)
    suffixes[ranks] = np.arange(len(tokens), dtype=np.int32)
    return suffixes


@jit
def _sort_by_first(tokens: Tokens, num_keys: int) -> Positions:
    """Return the suffixes in the order of their first tokens; those with equal ones by position."""
    n = len(tokens)
    suffixes = np.arange(n).astype(np.int32)
    other = np.empty(n, np.int32)
    for offset in range(FIRST_TOKENS - 1, -1, -1):
        starts = np.zeros(num_keys + 1, np.int64)
        if offset < n:
            starts[1] = offset  # nothing comes after the end, which is below all tokens
        for position in range(offset, n):
            starts[int(tokens[position]) + 2] += 1
        for key in range(num_keys):
            starts[key + 1] += starts[key]
        for index in range(n):
            suffix = suffixes[index]
            at = suffix + offset
            key = int(tokens[at]) + 1 if at < n else 0
            other[starts[key]] = suffix
            starts[key] += 1
        suffixes, other = other, suffixes
    return suffixes


@jit
def _rank_by_first(tokens: Tokens, suffixes: Positions, ranks: Positions) -> None:
    """Set each suffix's rank: the last index of those with the same first tokens.

    An index of ``suffixes`` whose suffix is alone with its rank is done: it becomes negative.
    """
    n = len(tokens)
    last = n - 1
    for index in range(n - 1, -1, -1):
        suffix = suffixes[index]
        ranks[suffix] = last
        same = index > 0
        if same:
            before = suffixes[index - 1]
            for offset in range(FIRST_TOKENS):
                one, two = before + offset, suffix + offset
                if one >= n or two >= n or tokens[one] != tokens[two]:
                    same = False
                    break
        if not same:
            if last == index:
                suffixes[index] = -1
            last = index - 1


@jit
def _double(suffixes: Positions, ranks: Positions) -> None:
    """Sort by twice as many tokens in each round, until each suffix has a rank of its own."""
    n = len(suffixes)
    keys = np.empty(n, np.int32)
    stack = np.empty((256, 2), np.int64)
    known = FIRST_TOKENS
    done = False
    while not done:
        done = True
        start = 0
        run = -1  # where the current run of finished indices starts
        while start < n:
            if suffixes[start] < 0:
                length = -int(suffixes[start])
                if run < 0:
                    run = start
                start += length
                suffixes[run] = -(start - run)
                continue
            run = -1
            done = False
            end = int(ranks[suffixes[start]]) + 1
            for index in range(start, end):
                at = suffixes[index] + known
                keys[index] = ranks[at] if at < n else -1
            _sort_pairs(keys, suffixes, start, end, stack)
            last = end - 1
            for index in range(end - 1, start - 1, -1):
                ranks[suffixes[index]] = last
                if index == start or keys[index - 1] != keys[index]:
                    if last == index:
                        suffixes[index] = -1
                    last = index - 1
            start = end
        known *= 2


@jit
def _sort_pairs(keys: Positions, values: Positions, first: int, end: int, stack: Any) -> None:
    """Sort ``[first, end)`` of two arrays by the first one: quicksort in three ways.

    The order of values with equal keys does not matter to the caller.
    """
    depth = 0
    stack[0, 0], stack[0, 1] = first, end
    depth = 1
    while depth:
        depth -= 1
        low, high = stack[depth, 0], stack[depth, 1]
        while high - low > INSERTION:
            pivot = _pivot(keys, low, high)
            below, index, above = low, low, high
            while index < above:
                key = keys[index]
                if key < pivot:
                    keys[index], keys[below] = keys[below], key
                    values[index], values[below] = values[below], values[index]
                    below += 1
                    index += 1
                elif key > pivot:
                    above -= 1
                    keys[index], keys[above] = keys[above], key
                    values[index], values[above] = values[above], values[index]
                else:
                    index += 1
            # The larger side waits, so that the stack stays below the logarithm of the length.
            if below - low > high - above:
                stack[depth, 0], stack[depth, 1] = low, below
                low = above
            else:
                stack[depth, 0], stack[depth, 1] = above, high
                high = below
            depth += 1
        for index in range(low + 1, high):
            key, value, at = keys[index], values[index], index
            while at > low and keys[at - 1] > key:
                keys[at], values[at] = keys[at - 1], values[at - 1]
                at -= 1
            keys[at], values[at] = key, value


@jit
def _pivot(keys: Positions, low: int, high: int) -> int:
    """Return the median of nine keys that are spread over ``[low, high)``."""
    eighth = (high - 1 - low) // 8
    sample = np.empty(9, np.int32)
    for number in range(9):
        sample[number] = keys[low + number * eighth]
    sample.sort()
    return int(sample[4])
