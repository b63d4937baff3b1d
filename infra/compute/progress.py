"""How a running stage tells what it is doing, without knowing who listens."""

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Progress:
    """A moment of a running stage.

    Attributes:
        done: units of work finished; ``total`` of them in all, 0 if unknown.
        note: one short line, such as ``312 pages, 40 queued`` or ``loss 4.21``.
        values: named numbers for whoever draws curves (``step``, ``loss``, ``tokens_per_second``).
    """

    stage: str
    source: str | None
    done: int
    total: int
    note: str = ""
    values: dict[str, float] | None = None


class Reporter(Protocol):
    """Listens to a run. Implementations never raise, never block for long."""

    def update(self, progress: Progress) -> None:
        """Called from any thread, up to thousands of times a second."""

    def link(self, name: str, url: str) -> None:
        """Something worth opening, such as the Dask dashboard."""


class Silent:
    """Listens to nothing: for tests and for library use."""

    def update(self, progress: Progress) -> None:
        """Ignore it."""

    def link(self, name: str, url: str) -> None:
        """Ignore it."""


class Several:
    """Passes everything on to several listeners."""

    def __init__(self, *listeners: Reporter) -> None:
        """Take the listeners, called in this order."""
        self._listeners: tuple[Any, ...] = listeners

    def update(self, progress: Progress) -> None:
        """Tell each."""
        for listener in self._listeners:
            listener.update(progress)

    def link(self, name: str, url: str) -> None:
        """Tell each."""
        for listener in self._listeners:
            listener.link(name, url)
