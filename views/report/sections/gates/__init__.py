"""Which versions the run's models are in the registry, and how their gates turned out."""

from collections.abc import Sequence
from dataclasses import dataclass

from infra.registry.history import Event, load_history, model_state
from infra.registry.versions import HELD, CorruptRegistryError, Version, load_version
from views.report.report_run import ReportRun, Section, Tile


@dataclass(frozen=True)
class Registered:
    """A version, and what became of it until the page was written."""

    version: Version
    alias: str
    withdrawn: bool
    events: Sequence[Event]


def collect(run: ReportRun) -> list[Registered] | None:
    """Return the versions of the run's models; ``None`` if it registered none."""
    numbers = run.record.versions_registered.values()
    if not numbers:
        return None
    try:
        history = load_history(run.storage, run.record.recipe)
        versions = [load_version(run.storage, run.record.recipe, number) for number in numbers]
    except CorruptRegistryError:
        return None  # it stops the next run, but not a page about a past one
    registered = []
    for version in versions:
        state = model_state(history, version.model)
        registered.append(
            Registered(
                version,
                state.alias_of(version.number),
                version.number in state.withdrawn,
                [event for event in history if event.version == version.number],
            )
        )
    return registered


def tiles(_run: ReportRun, data: list[Registered]) -> list[Tile]:
    """Return how many models passed."""
    failed = [item for item in data if item.version.failed_gates]
    waiting = [item for item in data if item.version.state == HELD]
    note = "failed their gates" if failed else f"{len(waiting)} wait" if waiting else "all passed"
    value = f"{len(data) - len(failed)} of {len(data)}"
    return [Tile("Models that met their gates", value, note, "worse" if failed else "")]


SECTION = Section("gates", "Gates and versions", collect, tiles)
