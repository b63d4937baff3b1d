"""word2vec as its papers describe it, in plain Python and float64, with the kernel's random numbers."""

import math
from typing import Any

import numpy as np

from lm.models.word2vec.input_rows import InputRows
from lm.models.word2vec.model import Schedule
from lm.models.word2vec.output_layer import OutputLayer

MASK = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15


def mix(value: int) -> int:
    """MurmurHash3's finalizer."""
    value = ((value ^ (value >> 33)) * 0xFF51AFD7ED558CCD) & MASK
    value = ((value ^ (value >> 33)) * 0xC4CEB9FE1A85EC53) & MASK
    return value ^ (value >> 33)


def logistic(x: float) -> float:
    """The logistic function, 0 or 1 beyond 6."""
    return 1.0 if x >= 6 else 0.0 if x <= -6 else 1 / (1 + math.exp(-x))


def train(
    words: list[int],
    position: int,
    key: int,
    words_before: int,
    weights: tuple[Any, Any],
    rows: InputRows,
    layer: OutputLayer,
    schedule: Schedule,
) -> None:
    """Change the weights, float64 arrays, as ``train_words`` does."""
    inputs, outputs = weights
    kept = []
    for index, word in enumerate(words):
        bits = mix((key + (position + index) * GAMMA) & MASK)
        if word < 0 or bits >> 32 <= schedule.keep[word]:
            kept.append((word, index, bits))
    for at, (word, index, own_bits) in enumerate(kept):
        if word < 0:
            continue
        bits = mix((own_bits + GAMMA) & MASK)
        reach = 1 + ((bits >> 32) * schedule.window >> 32)
        progress = (words_before + index) / schedule.total
        lr = max(schedule.min_lr, schedule.lr * (1 - progress))
        neighbors: list[int] = []
        for side in (range(at - 1, at - 1 - reach, -1), range(at + 1, at + 1 + reach)):
            found = []
            for other in side:
                if not 0 <= other < len(kept) or kept[other][0] < 0:
                    break
                found.append(kept[other][0])
            neighbors = [*reversed(found)] if side.step < 0 else [*neighbors, *found]
        if not neighbors:
            continue
        for group in [neighbors] if schedule.cbow else [[item] for item in neighbors]:
            used = [
                r for item in group for r in rows.rows[rows.starts[item] : rows.starts[item + 1]]
            ]
            hidden = inputs[used].mean(axis=0)
            gradient = np.zeros_like(hidden)
            targets = []
            if layer.negatives:
                targets.append((word, 1))
                for _ in range(layer.negatives):
                    bits = mix((bits + GAMMA) & MASK)
                    drawn = (bits >> 32) * len(layer.alias) >> 32
                    if bits & 0xFFFFFFFF > layer.threshold[drawn]:
                        drawn = int(layer.alias[drawn])
                    if drawn != word:
                        targets.append((drawn, 0))
            else:
                path = slice(layer.starts[word], layer.starts[word + 1])
                targets = [
                    (int(node), 1 - int(turn))
                    for node, turn in zip(layer.nodes[path], layer.turns[path], strict=True)
                ]
            for target, label in targets:
                factor = (label - logistic(float(hidden @ outputs[target]))) * lr
                gradient += factor * outputs[target]
                outputs[target] += factor * hidden
            for row in used:
                inputs[row] += gradient
