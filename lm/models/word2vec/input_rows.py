"""The input of a word: its own vector or, with subwords, the mean of it and those of its n-grams."""

from typing import NamedTuple

import numpy as np

from infra.compute.arrays import F32, I32, I64
from infra.compute.jit import jit
from lm.models.embedding.simd import LANES, add_scaled


class InputRows(NamedTuple):
    """The rows of ``Weights.inputs`` whose mean is a word's input: ``[starts[i], starts[i + 1])``."""

    starts: I64
    rows: I32


@jit
def mean_rows(inputs: F32, rows: InputRows) -> F32:
    """Return the mean of each word's input rows: float32[words, size]."""
    size = inputs.shape[1]
    means = np.zeros((len(rows.starts) - 1, size), np.float32)
    for word in range(len(means)):
        scale = np.float32(1) / np.float32(rows.starts[word + 1] - rows.starts[word])
        for row in range(rows.starts[word], rows.starts[word + 1]):
            add_scaled(
                means, word * size, scale, inputs, np.int64(rows.rows[row]) * size, size // LANES
            )
    return means
