"""Collect the sections of a run's report and render them as one self-contained HTML page."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from infra.dataset.step import Steps
from infra.runs.run_records import REPORTS, RunRecord
from infra.store.storage import Storage
from views.report import formatting
from views.report.embedding_plot import PLOT
from views.report.groups import LANGUAGE_NAMES
from views.report.report_run import ReportRun, Section, Tile
from views.report.sections import SECTIONS
from views.report.token_colors import token_colors


@dataclass(frozen=True)
class ReportPage:
    """What the page of a run shows: sections with their data, in order, and headline numbers."""

    record: RunRecord
    sections: Sequence[tuple[Section, Any]]
    tiles: Sequence[Tile]

    def data(self, name: str) -> Any:
        """Return the data of a section; ``None`` if the page has no such section."""
        return next((data for section, data in self.sections if section.name == name), None)


def build_report(storage: Storage, record: RunRecord, steps: Steps) -> str:
    """Write the report page of a run.

    Text of documents is read for samples only; the rest comes from manifests, ledgers and narrow
    columns. The page of a run that failed or stopped early shows the completed stages.

    Args:
        storage: the root of the store.
        record: the run.
        steps: the pipeline.

    Returns:
        The page's path relative to the storage root.
    """
    return write_page(storage, collect_page(storage, record, steps))


def collect_page(storage: Storage, record: RunRecord, steps: Steps) -> ReportPage:
    """Collect what the page of a run shows."""
    run = ReportRun(storage, record, steps)
    collected = [(section, section.collect(run)) for section in SECTIONS]
    shown = [(section, data) for section, data in collected if data is not None]
    tiles = [tile for section, data in shown for tile in section.tiles(run, data)]
    return ReportPage(record, shown, tiles)


def write_page(storage: Storage, page: ReportPage) -> str:
    """Write the page as HTML; return its path relative to the storage root."""
    path = f"{REPORTS}/{page.record.recipe}/{page.record.run}.html"
    storage.write(path, _render_page(page).encode())
    return path


def render(storage: Storage, record: RunRecord, steps: Steps) -> str:
    """Return the page as HTML text."""
    return _render_page(collect_page(storage, record, steps))


def _render_page(page: ReportPage) -> str:
    template = _environment().get_template("templates/page.html")
    return template.render(
        record=page.record,
        sections=page.sections,
        tiles=page.tiles,
        language_names=LANGUAGE_NAMES,
    )


@cache
def _environment() -> Environment:
    env = Environment(
        loader=PackageLoader("views.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "format_int": formatting.format_int,
        "format_si": formatting.format_si,
        "format_bytes": formatting.format_bytes,
        "format_duration": formatting.format_duration,
        "format_float": formatting.format_float,
        "format_delta": formatting.format_delta,
        "format_4g": formatting.format_4g,
        "format_time": formatting.format_time,
        "short_digest": formatting.short_digest,
        "humanize": lambda text: str(text).replace("_", " "),
    }
    env.globals |= {
        "format_percent": formatting.format_percent,
        "token_colors": token_colors,
        "plot_size": PLOT,
    }
    return env
