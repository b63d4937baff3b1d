"""Which versions the run's models are in the registry, how their gates turned out, and how metrics moved."""

from collections.abc import Sequence
from dataclasses import dataclass

from infra.registry.history import Event, load_history, model_state
from infra.registry.versions import HELD, CorruptRegistryError, Version, load_versions
from views.report.report_run import ReportRun, Section, Tile

MAX_COLUMNS = 8  # versions whose metrics are shown side by side
MAX_DOTS = 2  # of a metric that is shown: suite.bias.gap, but not suite.bias.women.gap


@dataclass(frozen=True)
class Registered:
    """A version, and what became of it until the page was written.

    Attributes:
        columns: this version and those of the model before it, the oldest first.
        rows: by metric, its value in each of the columns; ``None`` where a version has none.
    """

    version: Version
    alias: str
    withdrawn: bool
    events: Sequence[Event]
    columns: Sequence[int]
    rows: Sequence[tuple[str, Sequence[float | None]]]


def collect(run: ReportRun) -> list[Registered] | None:
    """Return the versions of the run's models; ``None`` if it registered none."""
    numbers = run.record.versions_registered.values()
    if not numbers:
        return None
    try:
        history = load_history(run.storage, run.record.recipe)
        known = {item.number: item for item in load_versions(run.storage, run.record.recipe)}
    except CorruptRegistryError:
        return None  # it stops the next run, but not a page about a past one
    registered = []
    for version in [known[number] for number in numbers if number in known]:
        state = model_state(history, version.model)
        same = [item for item in known.values() if item.model == version.model]
        shown = [item for item in same if item.number <= version.number][-MAX_COLUMNS:]
        registered.append(
            Registered(
                version,
                state.alias_of(version.number),
                version.number in state.withdrawn,
                [event for event in history if event.version == version.number],
                [item.number for item in shown],
                _metrics_by_version(shown),
            )
        )
    return registered


def _metrics_by_version(versions: Sequence[Version]) -> list[tuple[str, list[float | None]]]:
    """Return the main metrics of the last version with their values in each version."""
    values = [version.metric_values for version in versions]
    names = [name for name in values[-1] if name.count(".") <= MAX_DOTS]
    return [(name, [known.get(name) for known in values]) for name in names]


def tiles(_run: ReportRun, data: list[Registered]) -> list[Tile]:
    """Return how many models passed."""
    failed = [item for item in data if item.version.failed_gates]
    waiting = [item for item in data if item.version.state == HELD]
    note = "failed their gates" if failed else f"{len(waiting)} wait" if waiting else "all passed"
    value = f"{len(data) - len(failed)} of {len(data)}"
    return [Tile("Models that met their gates", value, note, "worse" if failed else "")]


SECTION = Section("gates", "Gates and versions", collect, tiles)
