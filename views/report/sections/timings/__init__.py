"""How long each data set took to build."""

from collections.abc import Sequence

from infra.runs.run_records import StageRecord
from views.report.formatting import format_duration
from views.report.report_run import ReportRun, Section, Tile

Timings = Sequence[tuple[StageRecord, float]]  # with the length of the bar, in % of the longest


def collect(run: ReportRun) -> Timings:
    """Return a bar per data set of the run: of this run's time, or of the run that built it."""
    seconds = [max(entry.seconds, entry.built_seconds or 0.0) for entry in run.record.stages]
    longest = max(seconds, default=0.0) or 1.0
    widths = (100 * length / longest for length in seconds)
    return list(zip(run.record.stages, widths, strict=True))


def tiles(run: ReportRun, data: Timings) -> list[Tile]:
    """Return the duration of the run."""
    cached = sum(entry.cached for entry, _ in data)
    note = f"{cached} of {len(data)} data sets were already committed" if cached else ""
    return [Tile("Duration", format_duration(run.record.seconds), note)]


SECTION = Section("timings", "Timings", collect, tiles)
