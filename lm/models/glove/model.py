"""The model as one kernel: move the two vectors of each cell of the co-occurrence matrix.

For a cell with the count x of the words i and j:

    loss = f(x) (w_i . c_j + b_i + d_j - ln x) ** 2 / 2,    f(x) = min(1, (x / x_max) ** alpha)

Each value has its own rate, ``lr`` over the root of 1 plus the sum of its squared gradients (AdaGrad, Duchi et al. 2011).
The vector of a word is w + c.
"""

from typing import NamedTuple

import numpy as np

from infra.compute.arrays import F32, I32
from infra.compute.jit import jit
from lm.models.embedding.simd import LANES, adagrad_pair, dot


class Table(NamedTuple):
    """The words of one side of the matrix, as rows, or as columns.

    Attributes:
        vectors: float32[words, 2 * size]; a vector, padded with zeros to whole blocks of ``LANES`` values, then 1
            plus the sums of its squared gradients.
        biases: float32[words, 2]; the bias and its sum.
    """

    vectors: F32
    biases: F32


class Cells(NamedTuple):
    """Cells in the order of training: their row and column in the tables, ln x, and f(x)."""

    rows: I32
    columns: I32
    logs: F32
    weights: F32


@jit
def train_cells(cells: Cells, rows: Table, columns: Table, lr: np.float32) -> float:
    """Train on each cell once; return the sum of their losses, each as it was before its step."""
    width = rows.vectors.shape[1]
    blocks = width // (2 * LANES)
    total = 0.0
    for k in range(len(cells.rows)):
        i, j = np.int64(cells.rows[k]), np.int64(cells.columns[k])
        product = dot(rows.vectors, i * width, columns.vectors, j * width, blocks)
        error = product + rows.biases[i, 0] + columns.biases[j, 0] - cells.logs[k]
        slope = cells.weights[k] * error
        total += 0.5 * np.float64(slope) * np.float64(error)
        adagrad_pair(rows.vectors, i * width, columns.vectors, j * width, slope, lr, blocks)
        rows.biases[i, 0] -= lr * slope / np.sqrt(rows.biases[i, 1])
        columns.biases[j, 0] -= lr * slope / np.sqrt(columns.biases[j, 1])
        rows.biases[i, 1] += slope * slope
        columns.biases[j, 1] += slope * slope
    return total
