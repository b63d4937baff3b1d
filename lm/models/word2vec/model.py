"""The model as one kernel: read a piece of the text, and move the vectors after each pair of words.

For a word w and each of its neighbors c (``skipgram``), or all of them at once (``cbow``):

    h = mean of the input vectors of c, and with subwords of the n-grams of c
    negative sampling:     loss = -ln s(h . o_w) - sum over random words r of ln s(-h . o_r)
    hierarchical softmax:  loss = -sum over the path to w of ln s(h . o_node) or, to the right, ln s(-h . o_node)

where s is the logistic function. An output vector moves at once; the input vectors all by the gradient of h when
the pair is done, as in word2vec.c. Random numbers depend on the epoch's key and a word's position in the text.
"""

from typing import NamedTuple

import numpy as np

from infra.compute.arrays import F32, I32, U64
from infra.compute.jit import jit
from infra.dataset.mixers import fmix64
from lm.models.embedding.simd import LANES, add_scaled
from lm.models.word2vec.input_rows import InputRows
from lm.models.word2vec.output_layer import OutputLayer
from lm.models.word2vec.predict import GAMMA, below, predict_word


class Weights(NamedTuple):
    """The parameters, padded with zeros to whole blocks of ``LANES`` values.

    Attributes:
        inputs: float32[words + buckets, size]; vectors of words, then of n-grams.
        outputs: float32[words, size], or of inner nodes.
    """

    inputs: F32
    outputs: F32


class Schedule(NamedTuple):
    """How a pass reads the text.

    Attributes:
        cbow: whether all neighbors predict a word together.
        window: maximum distance of neighbors.
        keep: uint64[V]; a word is read if 32 random bits are at most this.
        lr: initial learning rate.
        min_lr: the least.
        total: words of all epochs, over which the rate decreases.
    """

    cbow: bool
    window: int
    keep: U64
    lr: float
    min_lr: float
    total: int


@jit
def train_words(
    words: I32,
    position: int,
    epoch_key: np.uint64,
    words_before: int,
    weights: Weights,
    rows: InputRows,
    layer: OutputLayer,
    schedule: Schedule,
) -> int:
    """Train on a piece of the stream; return the number of pairs.

    Args:
        words: int32[n]; the numbers of words, negative at the end of a document.
        position: of the first of them in the stream.
        epoch_key: of the random numbers.
        words_before: words of all epochs before this piece.
        weights: are changed.
        rows: the input rows of each word.
        layer: the output layer.
        schedule: how the text is read.
    """
    inputs, outputs = weights.inputs, weights.outputs
    size = inputs.shape[1]
    blocks = size // LANES
    hidden, gradient = np.zeros(size, np.float32), np.zeros(size, np.float32)
    kept, positions = np.empty(len(words), np.int32), np.empty(len(words), np.int64)
    n = 0
    for i in range(len(words)):
        word = words[i]
        if word >= 0:
            bits = fmix64(epoch_key + np.uint64(position + i) * GAMMA)
            if bits >> np.uint64(32) > schedule.keep[word]:
                continue
        kept[n], positions[n] = word, i
        n += 1
    pairs = 0
    for i in range(n):
        word = kept[i]
        if word < 0:
            continue
        bits = fmix64(fmix64(epoch_key + np.uint64(position + positions[i]) * GAMMA) + GAMMA)
        reach = 1 + below(bits, schedule.window)
        progress = (words_before + positions[i]) / schedule.total
        lr = np.float32(max(schedule.min_lr, schedule.lr * (1 - progress)))
        low = high = i
        while low > 0 and low > i - reach and kept[low - 1] >= 0:
            low -= 1
        while high < n - 1 and high < i + reach and kept[high + 1] >= 0:
            high += 1
        first = low
        while first <= high:
            last = high if schedule.cbow else first
            count = 0
            for c in range(first, last + 1):
                if c != i:
                    count += rows.starts[kept[c] + 1] - rows.starts[kept[c]]
            if count > 0:
                scale = np.float32(1) / np.float32(count)
                hidden[:] = 0
                gradient[:] = 0
                for c in range(first, last + 1):
                    if c != i:
                        for row in range(rows.starts[kept[c]], rows.starts[kept[c] + 1]):
                            at = np.int64(rows.rows[row]) * size
                            add_scaled(hidden, 0, scale, inputs, at, blocks)
                bits = predict_word(hidden, gradient, outputs, word, layer, bits, lr)
                for c in range(first, last + 1):
                    if c != i:
                        for row in range(rows.starts[kept[c]], rows.starts[kept[c] + 1]):
                            at = np.int64(rows.rows[row]) * size
                            add_scaled(inputs, at, np.float32(1), gradient, 0, blocks)
                pairs += 1
            first = last + 1
    return pairs
