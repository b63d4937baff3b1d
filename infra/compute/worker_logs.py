"""What Dask's workers say reaches the run that they work for."""

import logging
from collections.abc import Sequence
from typing import Any

from distributed import Client, WorkerPlugin


class LogLevelPlugin(WorkerPlugin):
    """Lets loggers of a worker pass what they would keep back: a fresh process says warnings only."""

    def __init__(self, packages: Sequence[str], level: int) -> None:
        """For these packages, from this level on."""
        self.name = "gristmill-log-levels"
        self._packages = tuple(packages)
        self._level = level

    def setup(self, worker: Any) -> None:  # noqa: ARG002 - Dask's signature
        """On every worker, those that join later included."""
        for package in self._packages:
            logging.getLogger(package).setLevel(self._level)


def forward_worker_logs(client: Client, packages: Sequence[str], level: int) -> None:
    """Hand lines that packages log on workers to the loggers of the same name here."""
    for package in packages:
        client.forward_logging(package, level=level)
    client.register_plugin(LogLevelPlugin(packages, level))
