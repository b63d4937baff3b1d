"""A training process with an infinite learning rate at batch 13: ``-m tests.e2e.poisoned FOLDER``."""

import sys
from pathlib import Path

from infra.compute.processes import die_with_parent
from lm.data.loader import DataLoader
from lm.train import loop, worker
from tests.lm.poison import poisoned

BAD_BATCH = 13


def poison() -> None:
    """Let the weights diverge when that batch is served."""
    _, batch, rate = poisoned({BAD_BATCH})
    DataLoader.__next__ = batch  # type: ignore[method-assign,assignment]
    loop.learning_rate = rate  # type: ignore[attr-defined]


if __name__ == "__main__":
    die_with_parent()
    poison()
    worker.main(Path(sys.argv[1]))
