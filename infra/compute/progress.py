"""How a running stage tells what it is doing, without knowing who listens."""

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Progress:
    """A moment of a running stage.

    Attributes:
        completed: units of work finished; ``total`` of them in all, 0 if unknown.
        message: one short line, such as ``312 pages, 40 queued`` or ``loss 4.21``.
        values: named numbers for whoever draws curves (``step``, ``loss``, ``tokens_per_second``).
    """

    stage: str
    source: str | None
    completed: int
    total: int
    message: str = ""
    values: dict[str, float] | None = None


class Reporter(Protocol):
    """Listens to a run. Implementations never raise, never block for long."""

    def update(self, progress: Progress) -> None:
        """Called from any thread, up to thousands of times a second."""

    def link(self, name: str, url: str) -> None:
        """Something worth opening, such as the Dask dashboard."""


class NullReporter:
    """Listens to nothing: for tests and for library use."""

    def update(self, progress: Progress) -> None:
        """Ignore it."""

    def link(self, name: str, url: str) -> None:
        """Ignore it."""


class MultiReporter:
    """Passes everything on to several listeners."""

    def __init__(self, *reporters: Reporter) -> None:
        """Take the listeners, called in this order."""
        self._reporters: tuple[Any, ...] = reporters

    def update(self, progress: Progress) -> None:
        """Tell each."""
        for listener in self._reporters:
            listener.update(progress)

    def link(self, name: str, url: str) -> None:
        """Tell each."""
        for listener in self._reporters:
            listener.link(name, url)
