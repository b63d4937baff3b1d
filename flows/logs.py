"""The log of a run: what Prefect stores, under which step, and JSON on standard error if wanted."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging.handlers import PrefectConsoleHandler

from infra.log_format import JsonFormatter, is_json_format, set_run_fields
from infra.store.environment import mask

# As in PREFECT_LOGGING_EXTRA_LOGGERS (cli/main.py, prefect.yaml).
LOGGERS = ("cli", "flows", "views", "serve", "tasks", "lm", "infra")
PREFECT_LOGGERS = ("prefect", "prefect.flow_runs", "prefect.task_runs")
_FORMATTER = logging.Formatter()


@contextmanager
def filter_logs() -> Iterator[None]:
    """Log what steps have done; mask secrets; attach records that no step has logged to the flow run.

    Threads of libraries, here and on Dask workers, log outside the run's context.
    """
    run = FlowRunContext.get()
    run_id = run.flow_run.id if run and run.flow_run else None

    def rewrite(record: logging.LogRecord) -> bool:
        record.msg, record.args = mask(record.getMessage()), None
        if record.exc_info:
            record.exc_text = mask(_FORMATTER.formatException(record.exc_info))
            record.exc_info = None
        if run_id is not None and not hasattr(record, "flow_run_id") and not _in_run_context():
            record.flow_run_id = run_id
        return True

    with _json_handler():
        loggers = (*LOGGERS, *PREFECT_LOGGERS)
        handlers = {id(h): h for name in loggers for h in logging.getLogger(name).handlers}.values()
        levels = {name: logging.getLogger(name).level for name in LOGGERS}
        for name in LOGGERS:
            logging.getLogger(name).setLevel(logging.INFO)
        for handler in handlers:
            handler.addFilter(rewrite)
        try:
            yield
        finally:
            set_run_fields()
            for handler in handlers:
                handler.removeFilter(rewrite)
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


@contextmanager
def _json_handler() -> Iterator[None]:
    """Write JSON lines to standard error instead of Prefect's lines, if they are wanted."""
    if not is_json_format():
        yield
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    named = (logging.getLogger(name) for name in LOGGERS)
    loggers = [root, *(logger for logger in named if not logger.propagate)]
    replaced = [item for item in root.handlers if isinstance(item, PrefectConsoleHandler)]
    for logger in loggers:
        logger.addHandler(handler)
    for item in replaced:
        item.addFilter(_refuse)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        for item in replaced:
            item.removeFilter(_refuse)


def _refuse(_record: logging.LogRecord) -> bool:
    return False


def _in_run_context() -> bool:
    return TaskRunContext.get() is not None or FlowRunContext.get() is not None
