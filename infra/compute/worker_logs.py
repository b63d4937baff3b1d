"""Forward the log records of Dask workers to the step of the run that they belong to."""

import logging
from collections.abc import Mapping, Sequence
from contextvars import Context, copy_context
from typing import Any

from dask.context import thread_state
from distributed import Client, WorkerPlugin
from distributed.diagnostics.plugin import ForwardLoggingPlugin

TOPIC = "gristmill-log"


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


class TaskLogPlugin(ForwardLoggingPlugin):
    """Sends a package's log records to the client, each with the key of the task that logged it."""

    def __init__(self, package: str, level: int, topic: str) -> None:
        """Send the package's records of this level and above as events of a topic."""
        super().__init__(package, level, topic)  # type: ignore[no-untyped-call]

    def setup(self, worker: Any) -> None:
        """Start sending; called on every worker."""
        super().setup(worker)  # type: ignore[no-untyped-call]
        handler: Any = self.handler
        handler.addFilter(_add_task_key)


def _add_task_key(record: logging.LogRecord) -> bool:
    # None in a thread that no task runs in, such as one that a library has started.
    record.task_key = getattr(thread_state, "key", None)
    return True


class WorkerLogs:
    """Passes records of workers to this process's loggers, in the context of the task's submitter.

    Prefect's log handler takes the task run from the context, so a line that a Dask task logged
    appears under the task run that submitted it.
    """

    def __init__(self) -> None:
        """Start without any tasks."""
        self._contexts: dict[str, Context] = {}

    def add_tasks(self, group: str) -> None:
        """Attribute records of the tasks ``{group}-{number}`` to the current context."""
        self._contexts[group] = copy_context()

    def forward(
        self, client: Client, packages: Sequence[str], level: int, *, own_workers: bool
    ) -> None:
        """Forward what packages log on workers to the loggers of the same name in this process.

        Workers that this process has started lose their connection when it ends, which is no error.
        """
        for package in packages:
            topic = f"{TOPIC}-{package}"
            client.subscribe_topic(topic, self.handle)
            client.register_plugin(TaskLogPlugin(package, level, topic), topic)
        levels = dict.fromkeys(packages, level)
        if own_workers:
            levels["distributed"] = logging.CRITICAL
        client.register_plugin(LogLevelPlugin(levels))

    def handle(self, event: tuple[Any, dict[str, Any]]) -> None:
        """Log a record that a worker has sent."""
        _, attributes = event
        record = logging.makeLogRecord(attributes)
        logger = logging.getLogger(record.name)
        key = attributes.get("task_key")
        if key is None:
            logger.handle(record)
        elif context := self._contexts.get(str(key).rpartition("-")[0]):
            context.run(logger.handle, record)
        # Otherwise it belongs to another run, whose tasks share the worker.
