"""Exact groups: the documents that share one normalised text."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.dedup.sketch import DIGEST

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Groups:
    """Groups numbered by their length in shingles, then by digest: by content alone.

    Attributes:
        of: int64[documents], the group of each document.
        first: int64[groups], the first document of each.
        sizes: int64[groups], documents of each.
        shingles: int64[groups], shingles of their text.
        digests: uint8[groups, 16].
    """

    of: I64
    first: I64
    sizes: I64
    shingles: I64
    digests: npt.NDArray[np.uint8]

    def name(self, group: int) -> str:
        """A group's digest in hexadecimal."""
        return str(self.digests[group].tobytes().hex())


def group(digests: npt.NDArray[np.uint8], shingles: I64) -> Groups:
    """Group n documents by digest.

    Args:
        digests: uint8[n, 16], of the normalised texts.
        shingles: int64[n]; equal digests have equal counts.
    """
    halves = np.ascontiguousarray(digests).reshape(-1, DIGEST).view(">u8")
    order = np.lexsort((halves[:, 1], halves[:, 0], shingles))  # stable: first documents first
    ordered = halves[order]
    new = np.ones(len(order), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    of = np.empty(len(order), np.int64)
    of[order] = np.cumsum(new) - 1
    first = order[new]
    return Groups(of, first, np.bincount(of, minlength=len(first)), shingles[first], digests[first])
