"""Documents and bytes through every stage, in all and by source."""

from collections.abc import Sequence
from dataclasses import dataclass

from views.report.formatting import format_bytes, format_int
from views.report.funnel import FunnelStage
from views.report.report_run import ReportRun, Section, Tile


@dataclass(frozen=True)
class Funnel:
    """The stages, and what the lengths of the bars are relative to."""

    stages: Sequence[FunnelStage]
    sources: Sequence[str]
    max_documents: int
    max_bytes: int


def collect(run: ReportRun) -> Funnel:
    """Return the funnel; without stages if the run completed none."""
    stages = run.funnel
    return Funnel(
        stages,
        list(dict.fromkeys(name for stage in stages for name in stage.by_source)),
        max((stage.n_in for stage in stages), default=0),
        max((stage.text_bytes or 0 for stage in stages), default=0),
    )


def tiles(run: ReportRun, data: Funnel) -> list[Tile]:
    """Return the documents and text of the corpus, or of the last stage before it."""
    if not data.stages:
        return []
    corpus = run.dataset("corpus")
    first = data.stages[0]
    last = next((s for s in data.stages if s.output == "corpus"), data.stages[-1])
    kept = "in the corpus" if last.output == "corpus" else f"kept by {last.stage}"
    note = f"{kept}, of {format_int(first.n_in)} that came in"
    result = [Tile("Documents", format_int(last.n_out), note)]
    if last.text_bytes is not None:
        note = "as fetched" if corpus is None and last is first else f"{kept}, UTF-8"
        result.append(Tile("Text", format_bytes(last.text_bytes), note))
    return result


SECTION = Section("funnel", "Funnel", collect, tiles)
