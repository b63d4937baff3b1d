"""What people read of a run in Prefect's UI: tables and Markdown, made from its steps and its report."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from flows.execute import StepResult, step_label
from flows.lineage_graph import Node, lineage_svg
from flows.svg import data_url, funnel_svg
from infra.dataset.manifest import Counts
from infra.registry.versions import Version
from infra.runs.run_records import COMPLETED, RunRecord
from views.report import ReportPage
from views.report.formatting import format_duration, format_float, short_digest
from views.report.sections.leaderboard.board import Leaderboard
from views.report.sections.lineage import Lineage
from views.report.sections.models import Models

MAX_SAMPLE_CHARS = 700  # of each text
MAX_REASONS = 1  # that fits into a cell of a table, which the UI does not wrap


def describe_counts(counts: Counts) -> str:
    """Say what became of documents: ``2,140 in, 812 kept, 1,328 dropped (language 1,300, pii 28)``."""
    words = [f"{counts.n_in:,} in", f"{counts.kept:,} kept"]
    for verdict, reasons in (("dropped", counts.dropped), ("failed", counts.failed)):
        if reasons:
            words.append(f"{sum(reasons.values()):,} {verdict} ({format_reasons(reasons.items())})")
    return ", ".join(words)


def format_reasons(reasons: Iterable[tuple[str, int]], limit: int | None = None) -> str:
    """List reasons with their counts, the most frequent first; with a limit, the rest is a number."""
    ordered = sorted(reasons, key=lambda item: (-item[1], item[0]))
    words = [f"{reason} {count:,}" for reason, count in ordered[:limit]]
    more = len(ordered) - len(words)
    return ", ".join([*words, f"{more} more"] if more else words)


def describe_result(result: StepResult) -> str:
    """Say in one line what a step did: ``annotate site: 812 in, 812 kept (12.3 s)``."""
    how = "cached" if result.cached else format_duration(result.seconds)
    label = step_label(result.stage, result.entry or result.source)
    return f"{label}: {describe_counts(result.dataset.counts)} ({how})"


def funnel_rows(results: Sequence[StepResult]) -> list[dict[str, Any]]:
    """Return a row per step: documents in and out, and the main reason why some did not stay."""
    rows = []
    for result in results:
        counts = result.dataset.counts
        reasons = [*counts.dropped.items(), *counts.failed.items()]
        rows.append(
            {
                "step": step_label(result.stage, result.entry or result.source),
                "in": counts.n_in,
                "kept": counts.kept,
                "dropped": sum(counts.dropped.values()),
                "failed": sum(counts.failed.values()),
                "time": "cached" if result.cached else format_duration(result.seconds),
                "reasons": format_reasons(reasons, MAX_REASONS),
            }
        )
    return rows


def summarize_run(page: ReportPage, report: str) -> str:
    """Return Markdown: how the run ended, its headline numbers, what was cached, the report."""
    record = page.record
    ended = "completed" if record.state == COMPLETED else record.state
    paragraphs = [f"## {record.recipe}: {ended} in {format_duration(record.seconds)}"]
    if record.error:
        paragraphs.append(f"```\n{record.error}\n```")
    if page.tiles:
        rows = [(tile.label, f"**{tile.value}**", tile.note) for tile in page.tiles]
        paragraphs.append(markdown_table(("", "", ""), rows))
    funnel = page.data("funnel")
    if funnel and funnel.stages:
        bars = funnel_svg([(stage.stage, stage.n_out) for stage in funnel.stages])
        paragraphs.append(f"![Documents after each stage]({data_url(bars)})")
    paragraphs += [describe_cached(record), report]
    reasons = [
        (stage.stage, reason.reason, reason.verdict, f"{reason.count:,}")
        for stage in (funnel.stages if funnel else ())
        for reason in stage.reasons
    ]
    if reasons:
        columns = ("step", "reason", "", "documents")
        paragraphs += ["### Documents that did not stay", markdown_table(columns, reasons)]
    return "\n\n".join(paragraphs)


def describe_cached(record: RunRecord) -> str:
    """Say which steps were skipped because their data sets were committed already."""
    cached = [stage.label for stage in record.stages if stage.cached]
    built = [stage.label for stage in record.stages if not stage.cached]
    lines = [f"Cached: {len(cached)} of {len(record.stages)} steps."]
    if cached:
        lines.append(f"Found in the store: {', '.join(cached)}.")
    if built:
        lines.append(f"Built by this run: {', '.join(built)}.")
    return " ".join(lines)


def evaluation_rows(models: Models) -> list[dict[str, Any]]:
    """Return a row per kind of held-out text: bits per byte of the baselines and of each model."""
    names = [model.name for model in models.models if model.bits_per_byte is not None]
    return [
        {
            "held-out text": f"{row.group} {row.name}".strip(),
            "documents": row.documents,
            **{
                name: format_float(value)
                for name, value in zip(models.baselines, row.baselines, strict=True)
            },
            **{name: format_float(cell.value) for name, cell in zip(names, row.cells, strict=True)},
        }
        for row in models.evaluation
    ]


def leaderboard_rows(board: Leaderboard) -> list[dict[str, Any]]:
    """Return a row per entry of ``train`` and baseline, the best first."""
    return [
        {
            "model": row.name,
            "family": "baseline" if row.is_baseline else row.family,
            "seeds": len(row.models),
            **{
                column.title: " ".join(
                    filter(None, (row.cell(column), row.spread(column), row.coverage(column)))
                )
                for column in board.columns
            },
            **({"energy from": row.energy_sources} if board.has_energy else {}),
        }
        for row in board.rows
    ]


def describe_samples(models: Models) -> str:
    """Return Markdown with the prompts and each model's continuation."""
    parts = []
    for number, sample in enumerate(models.samples, 1):
        title = f"### {number}" + (f" · {sample.language}" if sample.language else "")
        parts += [title, "Prompt, the beginning of a held-out document:", fence(sample.prompt)]
        for name, text in sample.generated.items():
            parts += [f"**{markdown_cell(name)}** continues:", fence(text)]
        parts += ["The document itself goes on:", fence(sample.continuation)]
    return "\n\n".join(parts)


def describe_evidence(version: Version) -> str:
    """Return Markdown: the gates of a version and how they turned out."""
    against = "no champion yet" if version.champion is None else f"version {version.champion}"
    title = f"**{version.model}, version {version.number}**, judged against {against}"
    columns = ("gate", "value", "limit", "items", "result", "note")
    rows = [[str(row[name]) for name in columns] for row in gate_rows([version])]
    return f"{title}\n\n{markdown_table(columns, rows)}" if rows else f"{title}; there are no gates"


def gate_rows(versions: Sequence[Version]) -> list[dict[str, object]]:
    """Return a row per gate of each version, for a table in Prefect's UI."""
    return [
        {
            "model": version.model,
            "version": version.number,
            "gate": item.gate,
            "value": "" if item.value is None else f"{item.value:.4g}",
            "limit": "" if item.limit is None else f"{item.limit:.4g}",
            "difference": ""
            if item.low is None or item.high is None
            else f"{item.low:+.4g} to {item.high:+.4g}",
            "items": "" if item.n is None else item.n,
            "champion": "" if item.champion is None else item.champion,
            "result": "passed" if item.passed else "FAILED",
            "note": item.note,
        }
        for version in versions
        for item in version.gates
    ]


def describe_lineage(lineage: Lineage) -> str:
    """Return Markdown: each data set of the run, what it was made from, and its fingerprint."""
    nodes = [
        Node(
            row.entry.label,
            f"{row.entry.counts.kept:,} documents",
            row.entry.stage,
            row.inputs,
            row.entry.cached,
        )
        for row in lineage.rows
    ]
    picture = lineage_svg(nodes)
    rows = [
        (
            row.entry.label,
            ", ".join(row.inputs) or "outside",
            f"{row.entry.counts.kept:,}",
            f"`{short_digest(row.entry.fingerprint)}`",
            "cached" if row.entry.cached else "built",
        )
        for row in lineage.rows
    ]
    columns = ("data set", "made from", "documents", "fingerprint", "this run")
    table = markdown_table(columns, rows)
    return f"![The data sets of this run]({data_url(picture)})\n\n{table}" if picture else table


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(markdown_cell(cell) for cell in line)} |" for line in lines)


def markdown_cell(text: str) -> str:
    """Escape what would end a cell of a table."""
    return re.sub(r"\s+", " ", text).replace("|", r"\|")


def fence(text: str) -> str:
    """Show text as it is, cut off if it is long."""
    shown = text if len(text) <= MAX_SAMPLE_CHARS else f"{text[:MAX_SAMPLE_CHARS]} …"
    longest = max((len(ticks) for ticks in re.findall("`+", shown)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}text\n{shown}\n{marks}"
