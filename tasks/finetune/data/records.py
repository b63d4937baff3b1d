"""Rows of files as they are there, before a task reads them as examples."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.errors import UserError


class DataFileError(UserError):
    """A file of examples that cannot be read at all."""


@dataclass(frozen=True)
class Record:
    """A row of a file.

    Attributes:
        row: its number, from 1: of its first line in a text format, of the row in a table.
        values: its columns.
    """

    row: int
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Rejection:
    """A row that is no example.

    Attributes:
        row: its number, as in ``Record``.
        reason: one word, which is counted.
        message: what is wrong, with the value.
        failed: false if the row is as it should be, but holds nothing to learn from, as a message
            without a translation.
    """

    row: int
    reason: str
    message: str
    failed: bool = True


class BadValueError(Exception):
    """A row whose values are no example of the task; becomes a ``Rejection``."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def quote(text: str, max_chars: int = 60) -> str:
    """Quote a value for a message, cut to a readable length."""
    return repr(text if len(text) <= max_chars else text[: max_chars - 1] + "…")
