"""Preloaded by a Dask worker: every unit of work logs a line, as a stage's function might."""

import logging
from collections.abc import Callable
from typing import Any

from infra.dataset import stage

LINE = "a line from the worker"


def dask_setup(worker: object) -> None:
    """Log a line before each unit of work."""
    run_unit: Callable[..., Any] = stage._run_unit

    def log_and_run(*arguments: Any) -> Any:
        logging.getLogger("tasks.noisy").info(LINE)
        return run_unit(*arguments)

    setattr(stage, "_run_unit", log_and_run)  # noqa: B010 - a worker looks it up by name
