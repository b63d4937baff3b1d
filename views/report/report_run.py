"""What the sections of a report are made from: the run, its data sets, its funnel."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from infra.dataset.dataset import Dataset
from infra.dataset.step import Output, Steps, steps_with_output
from infra.removals.log import CorruptRemovalLogError
from infra.runs.run_records import RunRecord
from infra.store.storage import Storage
from views.documents.texts import find_removed
from views.report.funnel import FunnelStage, OpenedStages, build_funnel


@dataclass(frozen=True)
class ReportRun:
    """The run that a report shows."""

    storage: Storage
    record: RunRecord
    steps: Steps

    @cached_property
    def opened(self) -> OpenedStages:
        """The run's data sets with their records; ``None`` for those that were deleted."""
        return [(entry, entry.try_open(self.storage)) for entry in self.record.stages]

    @cached_property
    def funnel(self) -> list[FunnelStage]:
        """The stages that the run completed, with their counts and reasons."""
        return build_funnel(self.opened, self.steps)

    def find_removed(self, documents: Mapping[str, str | None]) -> set[str]:
        """Return the ids of the documents (URLs by id) that must not be quoted.

        These are all of them if the removals cannot be read: that stops the next run, but not a
        page about a past one.
        """
        try:
            return find_removed(self.storage, self.record, documents, self.steps)
        except CorruptRemovalLogError:
            return set(documents)

    def datasets(self, output: Output) -> list[Dataset]:
        """Return the run's existing data sets with this kind of output."""
        stages = steps_with_output(self.steps, output)
        return [data for entry, data in self.opened if entry.stage in stages and data is not None]

    def dataset(self, output: Output) -> Dataset | None:
        """Return the run's first data set with this kind of output, if it exists."""
        return next(iter(self.datasets(output)), None)


@dataclass(frozen=True)
class Tile:
    """A headline number at the top of the page."""

    label: str
    value: str
    note: str
    css_class: str = ""


@dataclass(frozen=True)
class Section:
    """A section of the page; its template is ``sections/{name}/section.html``.

    Attributes:
        name: of its folder; also its anchor in the page.
        title: its heading.
        collect: returns what the template gets as ``data``; ``None`` leaves the section out.
        tiles: returns the headline numbers that the section contributes.
    """

    name: str
    title: str
    collect: Callable[[ReportRun], Any]
    tiles: Callable[[ReportRun, Any], Sequence[Tile]] = lambda run, data: ()  # noqa: ARG005

    @property
    def template(self) -> str:
        """Path of its template below the package."""
        return f"sections/{self.name}/section.html"
