"""Locality-sensitive hashing: band keys, and the pairs of documents that share one.

Two documents of Jaccard similarity s share at least one of b bands of r rows with probability
``1 - (1 - s**r)**b`` (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, section 3.4).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from infra.jit import kernel
from tasks.dedup.hashing import xxh64

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]


def probability(similarity: float, bands: int, rows: int) -> float:
    """How likely a pair of this similarity is nominated: a point of the S-curve."""
    return float(1 - (1 - similarity**rows) ** bands)


def band_keys(signatures: U32, bands: int) -> U64:
    """One 8-byte key per band: XXH64 of the band's values (little-endian), seeded with its number.

    Args:
        signatures: uint32[n, bands * rows].
        bands: number of bands.

    Returns:
        uint64[n, bands].
    """
    n, width = signatures.shape
    data = np.ascontiguousarray(signatures, dtype="<u4").view(np.uint8).reshape(-1)
    return _keys(data, n, bands, 4 * (width // bands))


@kernel
def _keys(data: npt.NDArray[np.uint8], n: int, bands: int, size: int) -> U64:
    out = np.empty((n, bands), np.uint64)
    for i in range(n):
        for band in range(bands):
            start = (i * bands + band) * size
            out[i, band] = xxh64(data, start, start + size, np.uint64(band))
    return out


@dataclass(frozen=True)
class Nominated:
    """Pairs that share a band key.

    Attributes:
        pairs: int64[k, 2], each once, the smaller number first, sorted.
        buckets: buckets with two members or more, over all bands.
        largest: members of the largest bucket.
        skewed: buckets of more members than ``bucket``.
        left_out: pairs of skewed buckets that were not nominated there.
    """

    pairs: I64
    buckets: int
    largest: int
    skewed: int
    left_out: int


class Nominations:
    """Collects the pairs of one band after the other, each pair once.

    Members are numbered so that the order of numbers depends on content alone; what is nominated
    then depends on nothing else.
    """

    def __init__(self, members: int, bucket: int, neighbours: int) -> None:
        """Expect bands over ``members`` members, numbered by length, then digest."""
        self._members = members
        self._bucket = bucket
        self._neighbours = neighbours
        self._codes = np.zeros(0, np.uint64)
        self._totals = np.zeros(4, np.int64)

    def add(self, keys: U64) -> None:
        """Take a band's keys, uint64[members]."""
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        sizes = np.diff(np.r_[first, len(ordered)])
        shared = sizes > 1
        first, sizes = first[shared], sizes[shared]
        if not len(first):
            return
        made = _pair_counts(sizes, self._bucket, self._neighbours)
        pairs = np.empty((int(made.sum()), 2), np.int64)
        _fill(order, first, sizes, self._bucket, self._neighbours, pairs)
        codes = pairs[:, 0].astype(np.uint64) * np.uint64(self._members)
        codes += pairs[:, 1].astype(np.uint64)
        self._codes = np.union1d(self._codes, codes)
        possible = sizes * (sizes - 1) // 2
        self._totals += [
            len(sizes),
            0,
            int((sizes > self._bucket).sum()),
            int((possible - made).sum()),
        ]
        self._totals[1] = max(self._totals[1], int(sizes.max()))

    def result(self) -> Nominated:
        """All pairs of the bands given so far."""
        members = np.uint64(max(self._members, 1))
        pairs = np.stack([self._codes // members, self._codes % members], axis=1)
        return Nominated(pairs.astype(np.int64), *(int(value) for value in self._totals))


def _pair_counts(sizes: I64, bucket: int, neighbours: int) -> I64:
    """Pairs made in buckets of these sizes: all, or those with the first and the next few."""
    near = np.minimum(neighbours, sizes - 2)  # neighbours among the members but the first
    rest = sizes - 1
    bounded = rest + near * rest - near * (near + 1) // 2
    return np.where(sizes <= bucket, sizes * (sizes - 1) // 2, bounded)


@kernel
def _fill(order: I64, first: I64, sizes: I64, bucket: int, neighbours: int, out: I64) -> None:
    k = 0
    for b in range(len(first)):
        start = first[b]
        size = sizes[b]
        for i in range(size):
            # The sort was stable, so members of a bucket come in the order of their numbers.
            reach = size if i == 0 or size <= bucket else min(size, i + 1 + neighbours)
            for j in range(i + 1, reach):
                out[k, 0] = order[start + i]
                out[k, 1] = order[start + j]
                k += 1
