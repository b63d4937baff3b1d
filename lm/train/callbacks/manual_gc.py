"""Garbage collection at the same step on every process."""

import gc
from typing import Self

from lm.train.callbacks.base import Callback

GC_INTERVAL = 500  # steps


class ManualGC(Callback):
    """Collect at fixed steps, so that no process stops for it while the others wait."""

    def __enter__(self) -> Self:
        gc.collect()
        gc.freeze()
        gc.disable()
        return self

    def after_step(self, step: int, *, applied: bool) -> None:  # noqa: ARG002
        """Collect every ``GC_INTERVAL`` steps."""
        if (step + 1) % GC_INTERVAL == 0:
            gc.collect()

    def __exit__(self, *_: object) -> None:
        """Collect automatically again."""
        gc.enable()
        gc.unfreeze()
