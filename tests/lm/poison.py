"""Batches that spoil the weights of whoever learns from them."""

import math
from collections.abc import Callable, Container

from lm.data.loader import Batch, DataLoader

Serve = Callable[[DataLoader, int], Batch]


def poisoned(bad: Container[int]) -> tuple[list[int], Serve, Callable[..., float]]:
    """For batches of eight samples: those that were served, and what to put in two places.

    Returns:
        ``(served, batch, rate)``: the numbers of the batches so far; ``Feed.batch``, which notes
        them; ``learning_rate``, which is infinite at a bad one.
    """
    served: list[int] = []
    real = DataLoader.batch

    def batch(self: DataLoader, step: int) -> Batch:
        made = real(self, step)
        served.append(int(made.samples[0]) // 8)
        return made

    return served, batch, lambda *_: math.inf if served[-1] in bad else 0.003
