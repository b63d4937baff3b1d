"""Forward the log records of Dask workers to the run."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from distributed import Client, WorkerPlugin


class LogLevelPlugin(WorkerPlugin):
    """Sets log levels on every worker; a new process logs warnings only."""

    def __init__(self, levels: Mapping[str, int]) -> None:
        """Set the level of these packages."""
        self.name = "gristmill-log-levels"
        self._levels = dict(levels)

    def setup(self, worker: Any) -> None:  # noqa: ARG002 - Dask's signature
        """Set the levels; called on every worker, also on one that joins later."""
        for package, level in self._levels.items():
            logging.getLogger(package).setLevel(level)


def forward_worker_logs(
    client: Client, packages: Sequence[str], level: int, *, own_workers: bool
) -> None:
    """Forward what packages log on workers to the loggers of the same name in this process.

    Workers that this process has started lose their connection when it ends, which is no error.
    """
    for package in packages:
        client.forward_logging(package, level=level)
    levels = dict.fromkeys(packages, level)
    if own_workers:
        levels["distributed"] = logging.CRITICAL
    client.register_plugin(LogLevelPlugin(levels))
