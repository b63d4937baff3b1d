"""A training process to which batch 13 gives a learning rate without end: ``-m tests.e2e.poisoned FOLDER``."""

import math
import sys
from pathlib import Path

from infra.processes import die_with_parent
from tasks.train import loop, worker
from tasks.train.feed import Batch, Feed

BAD = 13


def poison() -> None:
    """Spoil the weights when that batch is served."""
    served: list[int] = []
    real = Feed.batch

    def batch(self: Feed, step: int) -> Batch:
        made = real(self, step)
        served.append(int(made.samples[0]) // 8)
        return made

    Feed.batch = batch  # type: ignore[method-assign]
    loop.learning_rate = lambda *_: math.inf if served[-1] == BAD else 0.003  # type: ignore[attr-defined]


if __name__ == "__main__":
    die_with_parent()
    poison()
    worker.main(Path(sys.argv[1]))
