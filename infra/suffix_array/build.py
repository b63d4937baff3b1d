"""Sort the suffixes of a sequence of tokens.

A counting sort by the first token, and within each of these a sort by as many further tokens as fit into 64 bits.
Then each round doubles the number of tokens by which suffixes are sorted: the rank of suffix ``s + h`` is the key
of suffix ``s`` (Larsson & Sadakane 2007, "Faster suffix sorting", sections 3 and 4). So text that repeats itself costs
a factor of the logarithm of the repetition's length, and nothing depends on the machine.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from infra.compute.jit import jit

MAX_TOKENS = 2**31 - 1
INSERTION = 12  # up to so many are sorted by insertion
STACK = 64  # ranges that a sort has left: the logarithm of their length

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
    num_keys = int(tokens.max()) + 1
    bits = num_keys.bit_length()  # of a token or the end
    more = 64 // bits
    ranks = np.empty(len(tokens), np.int32)
    suffixes = _sort_by_first(tokens, num_keys, bits, more, ranks)
    _double(suffixes, ranks, 1 + more)
    suffixes[ranks] = np.arange(len(tokens), dtype=np.int32)
    return suffixes


@jit
def _sort_by_first(
    tokens: Tokens, num_keys: int, bits: int, more: int, ranks: Positions
) -> Positions:
    """Return the suffixes in the order of their first ``1 + more`` tokens, and set their ranks.

    A suffix's rank is the last index of those with the same first tokens. An index whose suffix is alone
    with its rank is done: it becomes negative.
    """
    n = len(tokens)
    ends = np.zeros(num_keys + 1, np.int64)
    for position in range(n):
        ends[int(tokens[position]) + 1] += 1
    largest = 0
    for key in range(num_keys):
        largest = max(largest, ends[key + 1])
        ends[key + 1] += ends[key]
    suffixes = np.empty(n, np.int32)
    for position in range(n):
        key = int(tokens[position])
        suffixes[ends[key]] = position
        ends[key] += 1
    keys = np.empty(largest, np.uint64)
    stack = np.empty((STACK, 2), np.int64)
    start = 0
    for first in range(num_keys):
        end = ends[first]
        bucket = suffixes[start:end]
        for index in range(end - start):
            packed = np.uint64(0)
            for at in range(bucket[index] + 1, bucket[index] + 1 + more):
                # Nothing comes after the end, which is below all tokens.
                digit = np.uint64(tokens[at]) + np.uint64(1) if at < n else np.uint64(0)
                packed = (packed << np.uint64(bits)) | digit
            keys[index] = packed
        _sort_pairs(keys, bucket, 0, end - start, stack)
        _rank(keys, bucket, start, ranks)
        start = end
    return suffixes


@jit
def _rank(keys: Any, group: Positions, start: int, ranks: Positions) -> None:
    """Set the ranks of a sorted group that starts at an index of the suffix array."""
    last = len(group) - 1
    for index in range(len(group) - 1, -1, -1):
        ranks[group[index]] = start + last
        if index == 0 or keys[index - 1] != keys[index]:
            if last == index:
                group[index] = -1
            last = index - 1


@jit
def _double(suffixes: Positions, ranks: Positions, known: int) -> None:
    """Sort by twice as many tokens in each round, until each suffix has a rank of its own.

    They are sorted by their first ``known`` tokens.
    """
    n = len(suffixes)
    keys = np.empty(n, np.int32)
    stack = np.empty((STACK, 2), np.int64)
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
            group, group_keys = suffixes[start:end], keys[: end - start]
            for index in range(end - start):
                at = group[index] + known
                group_keys[index] = ranks[at] if at < n else -1
            _sort_pairs(group_keys, group, 0, end - start, stack)
            _rank(group_keys, group, start, ranks)
            start = end
        known *= 2


@jit
def _sort_pairs(keys: Any, values: Positions, first: int, end: int, stack: Any) -> None:
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
def _pivot(keys: Any, low: int, high: int) -> Any:
    """Return the median of three medians of nine keys that are spread over ``[low, high)``."""
    step = (high - 1 - low) // 8
    one = _median(keys[low], keys[low + step], keys[low + 2 * step])
    two = _median(keys[low + 3 * step], keys[low + 4 * step], keys[low + 5 * step])
    return _median(
        one, two, _median(keys[low + 6 * step], keys[low + 7 * step], keys[low + 8 * step])
    )


@jit
def _median(one: Any, two: Any, three: Any) -> Any:
    return max(min(one, two), min(max(one, two), three))
