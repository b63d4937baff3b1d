"""A training process to which batch 13 gives a learning rate without end: ``-m tests.e2e.poisoned FOLDER``."""

import sys
from pathlib import Path

from infra.compute.processes import die_with_parent
from lm.data.loader import DataLoader
from lm.train import loop, worker
from tests.lm.poison import poisoned

BAD = 13


def poison() -> None:
    """Spoil the weights when that batch is served."""
    _, batch, rate = poisoned({BAD})
    DataLoader.batch = batch  # type: ignore[method-assign,assignment]
    loop.learning_rate = rate  # type: ignore[attr-defined]


if __name__ == "__main__":
    die_with_parent()
    poison()
    worker.main(Path(sys.argv[1]))
