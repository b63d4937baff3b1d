"""Verification: the exact similarity of each nominated pair, computed from the texts."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from infra.dataset import PartRef
from infra.jit import kernel
from tasks.dedup.sketch import Reader

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

BATCH = 20_000  # pairs per unit of work


@kernel
def jaccard(a: U64, b: U64) -> float:
    """``|a & b| / |a | b|`` of two sorted arrays of distinct values; 0 for two empty ones."""
    i = 0
    j = 0
    both = 0
    while i < len(a) and j < len(b):
        if a[i] == b[j]:
            both += 1
            i += 1
            j += 1
        elif a[i] < b[j]:
            i += 1
        else:
            j += 1
    union = len(a) + len(b) - both
    return both / union if union else 0.0


def batches(pairs: I64) -> list[I64]:
    """Cut pairs into units of work, each with one first part, so that a worker reads few texts.

    Args:
        pairs: int64[k, 4]: part, row, part, row; in the order in which similarities are wanted.

    Returns:
        Arrays of indices into ``pairs``, each sorted by the second part.
    """
    order = np.lexsort((pairs[:, 3], pairs[:, 1], pairs[:, 2], pairs[:, 0]))
    cuts = np.flatnonzero(np.diff(pairs[order, 0])) + 1
    return [
        group[start : start + BATCH]
        for group in np.split(order, cuts)
        for start in range(0, len(group), BATCH)
    ]  # np.split gives one empty group where there are no pairs; it has no start


def similarities(parts: Mapping[int, PartRef], pairs: I64, ngram: int) -> F64:
    """The Jaccard similarity of the shingle sets of each pair.

    Holds the needed shingle sets of the first part and of one other at a time.

    Args:
        parts: the parts the pairs name, with ``text`` columns.
        pairs: int64[k, 4] with one first part, sorted by the second.
        ngram: words per shingle.

    Returns:
        float64[k].
    """
    reader = Reader(ngram)
    out = np.zeros(len(pairs))
    if not len(pairs):
        return out
    first = _sets(reader, parts[int(pairs[0, 0])], pairs[:, 1])
    for number in np.unique(pairs[:, 2]):
        chosen = np.flatnonzero(pairs[:, 2] == number)
        second = _sets(reader, parts[int(number)], pairs[chosen, 3])
        for k in chosen:
            out[k] = jaccard(first[int(pairs[k, 1])], second[int(pairs[k, 3])])
    return out


def _sets(reader: Reader, part: PartRef, rows: I64) -> dict[int, U64]:
    texts = part.table(["text"])["text"]
    return reader.shingle_sets(texts, [int(row) for row in np.unique(rows)])
