"""Log lines as text or as JSON: ``GRISTMILL_LOG_FORMAT``. docs/watch.md lists the fields of a JSON line."""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from infra.errors import UserError
from infra.store.environment import mask

ENV_VAR = "GRISTMILL_LOG_FORMAT"
TEXT, JSON = "text", "json"
JSON_FIELDS = "json_fields"  # the key of `extra` for fields of one record

_run_fields: dict[str, Any] = {}  # of this process's run: threads of libraries have no context
_step_fields: ContextVar[dict[str, Any] | None] = ContextVar("step_fields", default=None)


def is_json_format() -> bool:
    """Return whether lines are JSON.

    Raises:
        UserError: if the variable has another value than ``text`` or ``json``.
    """
    value = os.environ.get(ENV_VAR) or TEXT
    if value not in (TEXT, JSON):
        raise UserError(f"{ENV_VAR}: {value!r} is neither {TEXT} nor {JSON}")
    return value == JSON


def set_run_fields(**fields: Any) -> None:
    """Set the fields of all lines of this process's run; without any, its lines have none."""
    _run_fields.clear()
    _run_fields.update(fields)


@contextmanager
def step_fields(**fields: Any) -> Iterator[None]:
    """Add fields to the lines that this block logs; those that are ``None`` are left out."""
    token = _step_fields.set({**(_step_fields.get() or {}), **fields})
    try:
        yield
    finally:
        _step_fields.reset(token)


def json_line(created: float, level: str, logger: str, message: str, **fields: Any) -> str:
    """Return a line as JSON: time (UTC), level, logger, message, and the fields that are set."""
    time = datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds")
    line = {
        "time": time.replace("+00:00", "Z"),
        "level": level.lower(),
        "logger": logger,
        "message": message,
        **_run_fields,
        **(_step_fields.get() or {}),
        **fields,
    }
    present = {key: value for key, value in line.items() if value is not None}
    return json.dumps(mask(present), ensure_ascii=False, default=str)


class JsonFormatter(logging.Formatter):
    """Formats log records with ``json_line``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line; a traceback is its field ``exception``."""
        exception = record.exc_text
        if exception is None and record.exc_info:
            exception = self.formatException(record.exc_info)
        fields = {**getattr(record, JSON_FIELDS, {}), "exception": exception}
        message = record.getMessage()
        return json_line(record.created, record.levelname, record.name, message, **fields)
