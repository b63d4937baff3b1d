"""Batches that make the weights of a training diverge."""

import math
from collections.abc import Callable, Container

from lm.data.loader import Batch, DataLoader

LoadBatch = Callable[[DataLoader], Batch]


def poisoned(bad: Container[int]) -> tuple[list[int], LoadBatch, Callable[..., float]]:
    """Return replacements of two functions, for batches of eight samples.

    Returns:
        ``(loaded, batch, rate)``: the numbers of the batches so far; ``DataLoader.__next__``, which
        records them; ``learning_rate``, which is infinite at a bad one.
    """
    loaded: list[int] = []
    real = DataLoader.__next__

    def batch(self: DataLoader) -> Batch:
        rows = real(self)
        loaded.append(int(rows.samples[0]) // 8)
        return rows

    return loaded, batch, lambda *_: math.inf if loaded[-1] in bad else 0.003
