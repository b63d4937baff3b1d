"""Render the status of a store for a terminal, 80 columns or wider."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from views.report.formatting import format_bytes, format_duration, format_int, format_si
from views.status.collect import CRASHED, RUNNING, RunStatus, StoredData, StoreStatus

STYLES = {RUNNING: "cyan", "completed": "green", "cancelled": "yellow"}
DATE_CHARS = 16  # of an ISO 8601 time: to the minute
MAX_FOLDERS = 6  # that are listed with their size


def render_status(
    status: StoreStatus, scheduled: Sequence[RenderableType], reclaimable: int | None
) -> Group:
    """Return the whole screen.

    Args:
        status: of the store.
        scheduled: lines on the next scheduled runs; none without a Prefect server.
        reclaimable: bytes that no recipe of the store needs; ``None`` if unknown.
    """
    parts: list[RenderableType] = [Text(f"{status.storage}  (times are UTC)", style="bold")]
    if status.missing:
        names = ", ".join(status.missing)
        parts.append(Text(f"No run yet of {names}. Start it: gristmill run RECIPE"))
    elif not status.runs:
        parts.append(Text("No run yet. Start one: gristmill run RECIPE"))
    if status.runs:
        parts += [_title("Runs"), *_runs(status.runs)]
    if scheduled:
        parts += [_title("Next scheduled"), *scheduled]
    for kinds, title in (
        (("segment",), "Segments"),
        (("corpus", "tokens"), f"Corpus  ({_versions(status, 'corpus')})"),
        (("model",), f"Models  ({_versions(status, 'model')})"),
    ):
        if rows := [item for item in status.data if item.kind in kinds]:
            parts += [_title(title), _data(rows)]
    if status.disk:
        parts += [_title("Disk"), _disk(status, reclaimable)]
    return Group(*parts)


def table(*columns: str) -> Table:
    """Return an empty table as all sections of the screen have it; the last column takes the rest."""
    result = Table(
        box=None, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0), header_style="dim"
    )
    for number, name in enumerate(columns):
        last = number == len(columns) - 1
        right = name.startswith(">")
        result.add_column(
            name.removeprefix(">"),
            justify="right" if right else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if last else None,
        )
    return result


def short_time(iso: str | None) -> str:
    """Format a time to the minute: ``2026-11-29 09:41``."""
    return iso[:DATE_CHARS].replace("T", " ") if iso else "earlier"


def _title(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _versions(status: StoreStatus, kind: str) -> str:
    number = status.versions[kind]
    return f"{number} version{'s' if number != 1 else ''} stored"


def _runs(runs: Sequence[RunStatus]) -> Iterator[RenderableType]:
    rows = table("recipe", "state", "started", ">took", "")
    for run in runs:
        state = Text(run.state, style=STYLES.get(run.state, "red"))
        rows.add_row(
            run.recipe, state, short_time(run.started), format_duration(run.seconds), _details(run)
        )
    yield rows
    for run in runs:
        for folder, files in run.building.items():
            yield Text(f"  building {folder}: {format_int(files)} files so far", style="cyan")


def _details(run: RunStatus) -> str:
    if run.state in (RUNNING, CRASHED):
        return f"process {run.pid} on {run.host}"
    if run.error is not None:
        return run.error.splitlines()[0]
    return f"{run.built} steps built, {run.cached} cached"


def _data(items: Sequence[StoredData]) -> Table:
    rows = table("recipe", "name", "built", ">size", "")
    for item in items:
        facts = []
        if item.documents is not None:
            facts.append(f"{format_int(item.documents)} documents")
        if item.text_bytes:
            facts.append(f"{format_bytes(item.text_bytes)} of text")
        if item.tokens is not None:
            facts = [f"{format_si(item.tokens)} tokens", *facts]
        if "bits_per_byte" in item.metrics:
            facts.append(f"{item.metrics['bits_per_byte']:.4f} bits per byte")
        elif "kind" in item.metrics:
            facts.append("no probability")
        rows.add_row(
            item.recipe,
            item.name or item.kind,
            short_time(item.built),
            format_bytes(item.bytes),
            ", ".join(facts),
        )
    return rows


def _disk(status: StoreStatus, reclaimable: int | None) -> Text:
    largest = sorted(status.disk.items(), key=lambda item: -item[1])[:MAX_FOLDERS]
    folders = ", ".join(f"{name} {format_bytes(size)}" for name, size in largest)
    text = f"{format_bytes(sum(status.disk.values()))}: {folders}"
    if reclaimable:
        text += f"; gristmill gc would free {format_bytes(reclaimable)}"
    return Text(text)
