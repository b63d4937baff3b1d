"""How long each data set took to build."""

from collections.abc import Sequence
from dataclasses import dataclass

from infra.runs.run_records import StageRecord
from views.report.formatting import format_duration
from views.report.report_run import ReportRun, Section, Tile


@dataclass(frozen=True)
class Timing:
    """A bar of the timings.

    Attributes:
        seconds: spent by this run.
        build_seconds: spent by the run that built the data set, if this run found it.
        width_percent: of the bar, relative to the longest.
    """

    label: str
    seconds: float
    build_seconds: float | None
    cached: bool
    width_percent: float


def collect(run: ReportRun) -> Sequence[Timing]:
    """Return a bar per data set of the run."""
    longest = max(map(_length, run.record.stages), default=0.0) or 1.0
    return [
        Timing(
            entry.label,
            entry.seconds,
            entry.built_seconds if entry.cached else None,
            entry.cached,
            100 * _length(entry) / longest,
        )
        for entry in run.record.stages
    ]


def _length(entry: StageRecord) -> float:
    return max(entry.seconds, entry.built_seconds or 0.0)


def tiles(run: ReportRun, data: Sequence[Timing]) -> list[Tile]:
    """Return the duration of the run."""
    cached = sum(timing.cached for timing in data)
    note = f"{cached} of {len(data)} data sets were already committed" if cached else ""
    return [Tile("Duration", format_duration(run.record.seconds), note)]


SECTION = Section("timings", "Timings", collect, tiles)
