"""Batches of fine-tuning: encoded examples in an order that is a pure function of seed and epoch."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lm.data.loader import Batch, digest_rows
from lm.data.shuffle import Ranges, ShuffleOrder, batch_for_step

Rows = npt.NDArray[np.int64]

TRAIN_ROWS, VALIDATION_ROWS = "train-rows.npy", "validation-rows.npy"


class ExampleLoader(Iterator[Batch]):
    """Yields the rows of one of several equal processes for consecutive steps.

    Every epoch takes every example once, in another order; a batch may hold the end of one epoch and
    the start of the next. The sample number of an example counts over all epochs.
    """

    def __init__(
        self,
        rows: Rows,
        seed: int,
        batch_size: int,
        rank: int,
        world_size: int,
        *,
        start_step: int = 0,
        skip: Ranges = (),
    ) -> None:
        """Serve rank ``rank`` of ``world_size``, from step ``start_step`` on.

        Args:
            rows: int64[n, W].
            seed: of the order.
            batch_size: examples of a step over all processes.
            rank: of this process.
            world_size: number of processes.
            start_step: the first step.
            skip: half-open ranges of batches that are left out.
        """
        self._rows, self._skip = rows, skip
        self._order = ShuffleOrder(seed, len(rows))
        self._batch_size, self._step = batch_size, start_step
        own = batch_size // world_size
        self._own = slice(rank * own, (rank + 1) * own)

    def __next__(self) -> Batch:
        """Return the rows of the next step."""
        first = batch_for_step(self._step, self._skip) * self._batch_size
        samples = np.arange(first, first + self._batch_size)[self._own]
        numbers = self._order.rows_at(samples)
        rows = np.array(self._rows[numbers])
        self._step += 1
        return Batch(rows, samples, digest_rows(rows))

    def close(self) -> None:
        """Release nothing."""


def load_rows(folder: Path, name: str) -> Rows:
    """Return encoded examples that the stage wrote, mapped into memory."""
    rows: Rows = np.load(folder / name, mmap_mode="r")
    return rows
