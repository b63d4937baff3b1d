"""Progress of running stages, and the interface of what receives it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class WrittenParts:
    """Parts that a run has written; those of an earlier run, which it reused, are not counted.

    Attributes:
        kept: documents of these parts; ``dropped`` and ``failed`` by reason.
        text_bytes: UTF-8 bytes of their texts.
        file_bytes: length of all their files.
    """

    kept: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)
    text_bytes: int = 0
    file_bytes: int = 0

    @property
    def documents(self) -> int:
        """All documents of these parts, whatever became of them."""
        return self.kept + sum(self.dropped.values()) + sum(self.failed.values())


@dataclass(frozen=True)
class Progress:
    """The progress of a running stage at one moment.

    Attributes:
        completed: units of work finished; ``total`` of them in all, 0 if unknown.
        message: one short line, such as ``40 queued`` or ``loss 4.21``.
        values: named numbers for charts (``step``, ``loss``, ``tokens_per_second``).
        written: what this run has written so far; ``None`` for a stage that writes no parts.
        units: what is counted, if not what the step declares (``infra.dataset.step``), or parts.
        phase: the part of the stage that is counted; the next one starts at 0 again.
        total_is_limit: whether the stage may end before ``total``, as a crawl does that finds no
            further page.
    """

    stage: str
    source: str | None
    completed: int
    total: int
    message: str = ""
    values: dict[str, float] | None = None
    written: WrittenParts | None = None
    units: str | None = None
    phase: str | None = None
    total_is_limit: bool = False


class Reporter(Protocol):
    """Receives the progress of a run. Implementations never raise and never block for long."""

    def update(self, progress: Progress) -> None:
        """Called from any thread, up to thousands of times a second."""

    def link(self, name: str, url: str) -> None:
        """Show a link, such as that of the Dask dashboard."""


class NullReporter:
    """Ignores everything: for tests and for library use."""

    def update(self, progress: Progress) -> None:
        """Ignore it."""

    def link(self, name: str, url: str) -> None:
        """Ignore it."""


class MultiReporter:
    """Forwards everything to several reporters."""

    def __init__(self, *reporters: Reporter) -> None:
        """Take the reporters; they are called in this order."""
        self._reporters: tuple[Any, ...] = reporters

    def update(self, progress: Progress) -> None:
        """Forward it to each reporter."""
        for reporter in self._reporters:
            reporter.update(progress)

    def link(self, name: str, url: str) -> None:
        """Forward it to each reporter."""
        for reporter in self._reporters:
            reporter.link(name, url)
