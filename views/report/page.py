"""The page itself: gathers what the run left in the store and renders the template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from infra.dataset.dataset import Dataset, DatasetNotFoundError, IntegrityError
from infra.runs.run_records import COMPLETED, REPORTS, RunRecord, StageRecord
from infra.store.storage import Storage
from views.report import formatting
from views.report.corpus import LANGUAGE_NAMES, CorpusMix, compute_mix
from views.report.duplicates import build_duplicates
from views.report.funnel import FunnelStage, OpenedStages, add_samples, build_funnel
from views.report.models import (
    BASELINES,
    ReportModel,
    build_evaluation_table,
    collect_samples,
    draw_curves,
    load_models,
)
from views.report.quality import build_quality
from views.report.removals import build_removals
from views.report.tokenizer import build_vocabulary

DIGEST_CHARS = 12  # characters of a digest that tell two apart


@dataclass(frozen=True)
class Tile:
    """A headline figure."""

    label: str
    value: str
    note: str
    css_class: str = ""


@dataclass(frozen=True)
class Timing:
    """A bar of the timings.

    Attributes:
        seconds: what this run spent.
        build_seconds: what the run that built it spent, if this one found it.
        width_percent: of the bar, in per cent of the longest.
    """

    label: str
    seconds: float
    build_seconds: float | None
    cached: bool
    width_percent: float


def build_report(storage: Storage, record: RunRecord) -> str:
    """Write the report page of a run.

    Text of documents is read for samples only; the rest comes from manifests, ledgers and narrow
    columns. A run that failed or stopped early is shown as far as it came.

    Args:
        storage: the root of the store.
        record: the run.

    Returns:
        The page's path relative to the storage root.
    """
    path = f"{REPORTS}/{record.recipe}/{record.run}.html"
    storage.write(path, render(storage, record).encode())
    return path


def render(storage: Storage, record: RunRecord) -> str:
    """The page as text."""
    found = _open_stages(storage, record)
    steps = build_funnel(found)
    add_samples(storage, record, steps)
    corpus, marks = _first_dataset(found, "select"), _first_dataset(found, "dedup")
    shards = _first_dataset(found, "tokenize")
    notes = [data for entry, data in found if entry.stage == "annotate" and data is not None]
    trained = load_models(storage, record)
    made_of = compute_mix(corpus, shards)
    return (
        _environment()
        .get_template("page.html")
        .render(
            record=record,
            complete=record.state == COMPLETED,
            tiles=_build_tiles(record, steps, made_of, trained),
            stages=steps,
            max_documents=max((step.n_in for step in steps), default=0),
            max_bytes=max((step.text_bytes or 0 for step in steps), default=0),
            sources=_list_sources(steps),
            mix=made_of,
            vocabulary=build_vocabulary(shards),
            duplicates=build_duplicates(storage, record, marks) if marks is not None else None,
            quality=build_quality(notes, corpus),
            removals=build_removals(storage, record.recipe, corpus),
            models=trained,
            curves=draw_curves(trained),
            evaluation=build_evaluation_table(trained),
            samples=collect_samples(trained),
            baselines=list(BASELINES.values()),
            timings=_build_timings(record),
            lineage=[_lineage_row(entry, data, found) for entry, data in found],
            recipe=yaml.safe_dump(dict(record.config), sort_keys=False, allow_unicode=True),
            languages=LANGUAGE_NAMES,
        )
    )


@cache
def _environment() -> Environment:
    env = Environment(
        loader=PackageLoader("views.report"),
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
        "short_digest": lambda text: str(text)[:DIGEST_CHARS],
        "humanize": lambda text: str(text).replace("_", " "),
    }
    env.globals |= {"format_percent": formatting.format_percent}
    return env


def _open_stages(storage: Storage, record: RunRecord) -> OpenedStages:
    found: list[tuple[StageRecord, Dataset | None]] = []
    for entry in record.stages:
        try:
            found.append((entry, entry.open(storage)))
        except (DatasetNotFoundError, IntegrityError):
            found.append((entry, None))
    return found


def _first_dataset(opened: OpenedStages, stage: str) -> Dataset | None:
    return next((data for entry, data in opened if entry.stage == stage and data is not None), None)


def _build_tiles(
    record: RunRecord,
    stages: Sequence[FunnelStage],
    corpus_mix: CorpusMix | None,
    trained: Sequence[ReportModel],
) -> list[Tile]:
    tiles = []
    if stages:
        first, last = stages[0], next((s for s in stages if s.stage == "select"), stages[-1])
        kept = "in the corpus" if last.stage == "select" else f"kept by {last.stage}"
        came = f"{kept}, of {formatting.format_int(first.n_in)} that came in"
        tiles.append(Tile("Documents", formatting.format_int(last.n_out), came))
        if last.text_bytes is not None:
            note = f"{kept}, UTF-8" if last.stage != "acquire" else "as fetched"
            tiles.append(Tile("Text", formatting.format_bytes(last.text_bytes), note))
    if corpus_mix is not None and corpus_mix.total_tokens is not None:
        rate = formatting.format_float(corpus_mix.bytes_per_token, 2)
        note = f"{rate} bytes each, vocabulary {formatting.format_int(corpus_mix.vocab_size or 0)}"
        tiles.append(Tile("Tokens", formatting.format_si(corpus_mix.total_tokens), note))
    rated = [model for model in trained if model.bits_per_byte is not None]
    if rated:
        tiles.append(_bits_tile(min(rated, key=lambda model: model.bits_per_byte or 0), len(rated)))
    again = sum(entry.cached for entry in record.stages)
    note = f"{again} of {len(record.stages)} data sets were there already" if again else ""
    tiles.append(Tile("Duration", formatting.format_duration(record.seconds), note))
    return tiles


def _bits_tile(best: ReportModel, count: int) -> Tile:
    said, mood = [], ""
    for key, name in BASELINES.items():
        against = best.delta_to_baseline(key)
        if against is not None:
            said.append(f"{abs(100 * against):.0f} % {'below' if against < 0 else 'above'} {name}")
            mood = mood or ("better" if against < 0 else "worse")
    which = f"{best.name}: " if count > 1 else ""
    return Tile(
        "Bits per byte", formatting.format_float(best.bits_per_byte), which + ", ".join(said), mood
    )


def _list_sources(stages: Sequence[FunnelStage]) -> list[str]:
    return list(dict.fromkeys(name for step in stages for name in step.by_source))


def _build_timings(record: RunRecord) -> list[Timing]:
    def length(entry: StageRecord) -> float:
        return max(entry.seconds, entry.built_seconds or 0.0)

    longest = max((length(entry) for entry in record.stages), default=0.0) or 1.0
    return [
        Timing(
            entry.label,
            entry.seconds,
            entry.built_seconds if entry.cached else None,
            entry.cached,
            100 * length(entry) / longest,
        )
        for entry in record.stages
    ]


def _lineage_row(
    entry: StageRecord, data: Dataset | None, opened: OpenedStages
) -> Mapping[str, Any]:
    """A line of the lineage table."""
    labels = {other.fingerprint: other.label for other, _ in opened}
    inputs = data.manifest.inputs if data is not None else ()
    return {
        "entry": entry,
        "exists": data is not None,
        "content": data.content if data is not None else "",
        "code": str(data.manifest.provenance["code"]) if data is not None else "",
        "bytes": sum(file.bytes for file in data.manifest.all_files) if data is not None else 0,
        "parts": len(data.manifest.parts) if data is not None else 0,
        "inputs": [
            labels.get(item["fingerprint"], f"{item['stage']} {item['fingerprint'][:DIGEST_CHARS]}")
            for item in inputs
        ],
    }
