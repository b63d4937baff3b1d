"""Run one step: look its data set up in the store, make it if it is missing."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flows.dag import Bind, H
from infra.compute.processes import RunCancelled
from infra.dataset.dataset import Dataset, open_dataset
from infra.dataset.stage import Context
from infra.dataset.step import Step
from infra.log_format import step_fields


def step_label(stage: str, name: str | None) -> str:
    """Name a step, such as ``annotate site``."""
    return f"{stage} {name}" if name else stage


@dataclass(frozen=True)
class StepResult:
    """The outcome of one step.

    Attributes:
        folder: the data set's folder below the storage root.
        seconds: how long this run took for it.
        cached: whether it was committed already.
    """

    stage: str
    source: str | None
    entry: str | None
    folder: str
    dataset: Dataset
    seconds: float
    cached: bool

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, as in a JSON log line."""
        return {
            "stage": self.stage,
            "source": self.entry or self.source,
            "dataset": self.folder,
            **self.dataset.counts.to_json(),
            "seconds": round(self.seconds, 3),
            "cached": self.cached,
        }


class ResourcePool:
    """Cores or GPUs of this machine, reserved by training runs: they run in parallel if they fit."""

    def __init__(self, total: int) -> None:
        """Start with everything free."""
        self.total = total
        self._free = total
        self._cancelled = False
        self._condition = threading.Condition()

    @contextmanager
    def reserve(self, amount: int) -> Iterator[None]:
        """Wait for ``amount`` units (at most all of them) and give them back afterwards.

        Raises:
            RunCancelled: if the run is being stopped.
        """
        count = min(amount, self.total)
        with self._condition:
            self._condition.wait_for(lambda: self._cancelled or self._free >= count)
            if self._cancelled:
                raise RunCancelled("the run is being stopped")
            self._free -= count
        try:
            yield
        finally:
            with self._condition:
                self._free += count
                self._condition.notify_all()

    def cancel(self) -> None:
        """Refuse further reservations and wake up everyone who waits for one."""
        with self._condition:
            self._cancelled = True
            self._condition.notify_all()


def execute_step(
    ctx: Context,
    step: Step[...],
    bind: Bind[H],
    folder_of: Callable[[H], str],
    source: str | None = None,
    entry: str | None = None,
) -> StepResult:
    """Make a step's data set, unless the store has it.

    Args:
        ctx: the run.
        step: what to do.
        bind: binds the step to its arguments (``flows.dag.StepRunner``).
        folder_of: returns the folder of a handle's data set, below the storage root.
        source: the source it is done for.
        entry: the model it is done for.
    """
    start = time.monotonic()
    bound = bind(lambda handle: open_dataset(ctx.storage.subdir(*folder_of(handle).split("/"))))
    spec, dataset = bound.lookup(ctx)
    cached = dataset is not None
    if dataset is None:
        with step_fields(dataset=spec.folder):
            dataset = bound.build(ctx, spec)
    seconds = time.monotonic() - start
    return StepResult(step.name, source, entry, spec.folder, dataset, seconds, cached)
