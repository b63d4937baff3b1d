"""Forward the log records of Dask workers to the run."""

import logging
from collections.abc import Sequence
from typing import Any

from distributed import Client, WorkerPlugin


class LogLevelPlugin(WorkerPlugin):
    """Sets the log level of packages on every worker; a new process logs warnings only."""

    def __init__(self, packages: Sequence[str], level: int) -> None:
        """Set the level of these packages."""
        self.name = "gristmill-log-levels"
        self._packages = tuple(packages)
        self._level = level

    def setup(self, worker: Any) -> None:  # noqa: ARG002 - Dask's signature
        """Set the levels; called on every worker, also on one that joins later."""
        for package in self._packages:
            logging.getLogger(package).setLevel(self._level)


def forward_worker_logs(client: Client, packages: Sequence[str], level: int) -> None:
    """Forward what packages log on workers to the loggers of the same name in this process."""
    for package in packages:
        client.forward_logging(package, level=level)
    client.register_plugin(LogLevelPlugin(packages, level))
