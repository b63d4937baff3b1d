"""Cosines of word vectors, with the same bits on every machine and for any number of threads.

A BLAS adds up in an order that depends on the processor and its threads, so two words that are equally near
could change places. Here the order is that of the kernels that train the vectors.
"""

import numpy as np

from infra.compute.arrays import F32
from infra.compute.jit import jit
from lm.models.embedding.simd import LANES, dot, pad_to_lanes


def to_unit_rows(vectors: F32) -> F32:
    """Return rows scaled to length 1, padded with zeros to whole blocks: float32[n, padded]; zeros stay so."""
    rows = np.zeros((len(vectors), pad_to_lanes(vectors.shape[1])), np.float32)
    rows[:, : vectors.shape[1]] = vectors
    _scale(rows)
    return rows


@jit
def _scale(rows: F32) -> None:
    size = rows.shape[1]
    for row in range(len(rows)):
        length = np.sqrt(dot(rows, row * size, rows, row * size, size // LANES))
        if length > 0:
            for column in range(size):
                rows[row, column] /= length


@jit
def inner_products(queries: F32, rows: F32) -> F32:
    """Return the inner product of each query with each row, all padded: float32[queries, rows]."""
    size = rows.shape[1]
    products = np.empty((len(queries), len(rows)), np.float32)
    for row in range(len(rows)):  # outer, so that a row of a large table is read once
        for query in range(len(queries)):
            products[query, row] = dot(queries, query * size, rows, row * size, size // LANES)
    return products
