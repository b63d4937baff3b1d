"""Look up where runs of a query's tokens occur in an indexed sequence of tokens."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from infra.compute.jit import jit

Tokens = npt.NDArray[Any]
Lengths = npt.NDArray[np.int32]
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SuffixArray:
    """Tokens and the positions of their suffixes in lexicographic order; both may be memory-mapped.

    Attributes:
        tokens: uint16[n] or int32[n].
        suffixes: int32[n], as ``build_suffix_array`` returns it.
    """

    tokens: Tokens
    suffixes: Lengths

    def longest_matches(self, query: Ids) -> Lengths:
        """Return, for each position of the query, how many tokens from it on occur in one piece."""
        lengths = np.zeros(len(query), np.int32)
        _longest_matches(self.tokens, self.suffixes, query, lengths)
        return lengths

    def find(self, query: Ids, limit: int | None = None) -> tuple[int, Ids]:
        """Return how often the whole query occurs, and where, ascending.

        Args:
            query: at least one token.
            limit: maximum number of positions; of more occurrences the first suffixes are taken.
        """
        first, end = _interval(self.tokens, self.suffixes, query)
        shown = end if limit is None else min(end, first + limit)
        return end - first, np.sort(self.suffixes[first:shown]).astype(np.int64)


@jit
def _common_prefix(tokens: Tokens, suffix: int, query: Ids, start: int, known: int) -> int:
    """Return the number of tokens that a suffix and ``query[start:]`` share; the first ``known`` are."""
    length = min(len(tokens) - suffix, len(query) - start)
    same = known
    while same < length and tokens[suffix + same] == query[start + same]:
        same += 1
    return same


@jit
def _longest_matches(tokens: Tokens, suffixes: Lengths, query: Ids, lengths: Lengths) -> None:
    """Find where each suffix of the query would be inserted; a longest match is beside that index."""
    for start in range(len(query)):
        low, high = -1, len(suffixes)
        # All suffixes between two share at least what both of them share with the query
        # (Manber & Myers 1993, "Suffix arrays", section 2).
        same_low, same_high = 0, 0
        while high - low > 1:
            middle = (low + high) // 2
            suffix = int(suffixes[middle])
            same = _common_prefix(tokens, suffix, query, start, min(same_low, same_high))
            at, end = start + same, suffix + same
            is_below = end == len(tokens) or (at < len(query) and tokens[end] < query[at])
            if at == len(query):
                lengths[start] = same
                break
            if is_below:
                low, same_low = middle, same
            else:
                high, same_high = middle, same
        else:
            lengths[start] = max(same_low, same_high)


@jit
def _bound(tokens: Tokens, suffixes: Lengths, query: Ids, *, after: bool) -> int:
    """Return the first index whose suffix is not below the query or, with ``after``, is above its matches."""
    low, high = 0, len(suffixes)
    while low < high:
        middle = (low + high) // 2
        suffix = int(suffixes[middle])
        same = _common_prefix(tokens, suffix, query, 0, 0)
        if same == len(query):
            is_below = after
        else:
            is_below = suffix + same == len(tokens) or tokens[suffix + same] < query[same]
        if is_below:
            low = middle + 1
        else:
            high = middle
    return low


def _interval(tokens: Tokens, suffixes: Lengths, query: Ids) -> tuple[int, int]:
    first = _bound(tokens, suffixes, query, after=False)
    return int(first), int(_bound(tokens, suffixes, query, after=True))
