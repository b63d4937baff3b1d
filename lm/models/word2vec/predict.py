"""Predict one word from a hidden vector, as part of the kernel: the losses of ``lm.models.word2vec.model``."""

import math

import numpy as np

from infra.compute.arrays import F32
from infra.compute.jit import jit_inline
from infra.dataset.mixers import fmix64
from lm.models.embedding.simd import LANES, add_scaled, dot
from lm.models.word2vec.output_layer import OutputLayer

GAMMA = np.uint64(0x9E3779B97F4A7C15)  # between the numbers that are mixed into random bits
MAX_LOGIT = 6.0  # beyond it the logistic function is taken as 0 or 1 (word2vec.c)
CELLS = 1024
_SCALE = np.float32(CELLS / (2 * MAX_LOGIT))
_X = [index * 2 * MAX_LOGIT / CELLS - MAX_LOGIT for index in range(CELLS + 2)]
# The logistic function, interpolated between these values with an error below 2e-6.
LOGISTIC = np.array([1 / (1 + math.exp(-x)) for x in _X], np.float32)


@jit_inline
def below(bits: np.uint64, end: int) -> np.int64:
    """Return a number in ``[0, end)`` from the high 32 of random bits."""
    return np.int64(((bits >> np.uint64(32)) * np.uint64(end)) >> np.uint64(32))


@jit_inline
def _logistic(x: np.float32) -> np.float32:
    if x >= MAX_LOGIT:
        return np.float32(1)
    if x <= -MAX_LOGIT:
        return np.float32(0)
    position = (x + np.float32(MAX_LOGIT)) * _SCALE
    cell = np.int64(position)
    low, high = LOGISTIC[cell], LOGISTIC[cell + 1]
    value: np.float32 = low + (position - np.float32(cell)) * (high - low)
    return value


@jit_inline
def predict_word(
    hidden: F32,
    gradient: F32,
    outputs: F32,
    word: int,
    layer: OutputLayer,
    bits: np.uint64,
    lr: np.float32,
) -> np.uint64:
    """Predict a word from ``hidden``: move output vectors, add to ``gradient``; return the random bits."""
    size = len(hidden)
    blocks = size // LANES
    steps = layer.negatives + 1
    if layer.negatives == 0:
        steps = layer.starts[word + 1] - layer.starts[word]
    for step in range(steps):
        target, label = np.int64(word), np.float32(0)
        if layer.negatives == 0:
            node = layer.starts[word] + step
            target = np.int64(layer.nodes[node])
            label = np.float32(1 - layer.turns[node])
        elif step == 0:
            label = np.float32(1)
        else:
            bits = fmix64(bits + GAMMA)
            target = below(bits, len(layer.alias))
            if np.uint32(bits) > layer.threshold[target]:
                target = np.int64(layer.alias[target])
            if target == word:
                continue
        at = target * size
        factor = (label - _logistic(dot(hidden, 0, outputs, at, blocks))) * lr
        add_scaled(gradient, 0, factor, outputs, at, blocks)
        add_scaled(outputs, at, factor, hidden, 0, blocks)
    return bits
