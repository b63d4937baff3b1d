"""The content of a book, whatever its format."""

from dataclasses import dataclass, field
from typing import Any

from tasks.acquire.document_builder import Chapter


@dataclass
class Book:
    """A book: its text, chapters in order, the metadata that it states, and how it was read."""

    format: str
    text: str = ""
    chapters: list[Chapter] = field(default_factory=list)
    title: str | None = None
    creators: list[str] = field(default_factory=list)
    date: str | None = None
    language: str | None = None
    rights: str | None = None
    encoding: str | None = None
    gutenberg: bool = False  # whether Project Gutenberg's additions were removed
    chapters_lost: list[dict[str, str]] = field(default_factory=list)  # file and error
    chapters_repaired: list[str] = field(default_factory=list)  # read although not well-formed

    @property
    def evidence(self) -> dict[str, Any]:
        """How it was read, for the ledger."""
        names = (
            "format",
            "encoding",
            "gutenberg",
            "creators",
            "chapters_lost",
            "chapters_repaired",
        )
        return {name: value for name in names if (value := getattr(self, name))}


class BookError(Exception):
    """A book that cannot be read; the message names the problem and the file inside the book.

    Attributes:
        reason: ``bad_epub``, ``drm``, ``too_large`` and so on: the failure's reason in the ledger.
        evidence: further values for the ledger.
    """

    def __init__(self, reason: str, message: str, **evidence: Any) -> None:
        super().__init__(message)
        self.reason = reason
        self.evidence = {"error": message, **evidence}
