"""Exact Jaccard similarities by the definitions of ``infra.minhash.shingles``, in plain Python and NumPy.

Nothing compiled and nothing approximate: this is what deduplication is judged by.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import xxhash

from infra.minhash.shingles import shingles

NGRAM = 5
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]


def shingle_set(text: str) -> U64:
    """The distinct word 5-grams of a text as sorted 64-bit hashes."""
    hashes = [xxhash.xxh64_intdigest(shingle) for shingle in shingles(text, NGRAM)]
    return np.unique(np.array(hashes, np.uint64))


def jaccard(a: U64, b: U64) -> float:
    """Of two sets; 0 if both are empty."""
    common = len(np.intersect1d(a, b, assume_unique=True))
    union = len(a) + len(b) - common
    return common / union if union else 0.0


def all_pairs(sets: Sequence[U64], min_similarity: float) -> dict[tuple[int, int], float]:
    """Every pair (i, j), i < j, of n sets whose Jaccard similarity is at least ``min_similarity`` > 0."""
    n = len(sets)
    sizes = np.array([len(one) for one in sets], np.int64)
    owner = np.repeat(np.arange(n), sizes)
    _, feature = np.unique(np.concatenate(sets), return_inverse=True)
    order = np.argsort(feature, kind="stable")  # postings: by feature, then by set
    postings = owner[order]
    counts = np.bincount(feature)
    starts = np.cumsum(counts) - counts
    first = np.cumsum(sizes) - sizes
    result = {}
    for i in range(n):
        own = feature[first[i] : first[i] + sizes[i]]
        own = own[counts[own] > 1]
        lengths = counts[own]
        offsets = np.cumsum(lengths) - lengths
        where = np.repeat(starts[own] - offsets, lengths) + np.arange(lengths.sum())
        common = np.bincount(postings[where], minlength=n)
        common[: i + 1] = 0
        others = np.flatnonzero(common)
        similarity = common[others] / (sizes[i] + sizes[others] - common[others])
        close = similarity >= min_similarity
        for j, value in zip(others[close], similarity[close], strict=True):
            result[i, int(j)] = float(value)
    return result


BINS = (0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)


def bin_name(similarity: float) -> str | None:
    """The name of the bin that a similarity falls into; None below the least."""
    if similarity == 1:
        return "1"
    for low, high in itertools.pairwise(BINS):
        if low <= similarity < high:
            return f"{low:g}-{high:g}"
    return None


def bin_names() -> list[str]:
    """All bins, the least first."""
    return [*(f"{low:g}-{high:g}" for low, high in itertools.pairwise(BINS)), "1"]


def neighbors(
    pairs: Mapping[tuple[str, str], float], min_similarity: float
) -> dict[str, list[str]]:
    """For each member of a pair, those it is at least so similar to."""
    result: dict[str, list[str]] = {}
    for (a, b), similarity in pairs.items():
        if similarity >= min_similarity:
            result.setdefault(a, []).append(b)
            result.setdefault(b, []).append(a)
    return result


def find_supported(
    removed: Iterable[str], pairs: Mapping[tuple[str, str], float], threshold: float
) -> set[str]:
    """Return the removed documents that have a kept duplicate of at least ``threshold``."""
    removed_set = set(removed)
    near = neighbors(pairs, threshold)
    return {
        name
        for name in removed_set
        if any(other not in removed_set for other in near.get(name, ()))
    }
