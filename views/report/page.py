"""The page itself: gathers what the run left in the store and renders the template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from infra.dataset.dataset import BrokenPromise, Dataset, NotCommitted
from infra.runs.run_records import COMPLETED, REPORTS, RunRecord, StageRecord
from infra.store.storage import Storage
from views.report import formatting
from views.report.corpus import NAMES, Mix, mix
from views.report.duplicates import duplicates
from views.report.funnel import Found, Step, add_samples, funnel
from views.report.models import BASELINES, Model, curves, models, samples, table
from views.report.quality import quality
from views.report.removals import removals
from views.report.tokenizer import vocabulary

SHORT = 12  # characters of a digest that tell two apart


@dataclass(frozen=True)
class Tile:
    """A headline figure."""

    label: str
    value: str
    note: str
    mood: str = ""


@dataclass(frozen=True)
class Timing:
    """A bar of the timings.

    Attributes:
        seconds: what this run spent.
        built: what the run that built it spent, if this one found it.
        width: of the bar, in per cent of the longest.
    """

    label: str
    seconds: float
    built: float | None
    cached: bool
    width: float


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
    storage.put(path, render(storage, record).encode())
    return path


def render(storage: Storage, record: RunRecord) -> str:
    """The page as text."""
    found = _open(storage, record)
    steps = funnel(found)
    add_samples(storage, record, steps)
    corpus, marks = _one(found, "select"), _one(found, "dedup")
    shards = _one(found, "tokenize")
    notes = [data for entry, data in found if entry.stage == "annotate" and data is not None]
    trained = models(storage, record)
    made_of = mix(corpus, shards)
    return (
        _environment()
        .get_template("page.html")
        .render(
            record=record,
            complete=record.state == COMPLETED,
            tiles=_tiles(record, steps, made_of, trained),
            steps=steps,
            most=max((step.came for step in steps), default=0),
            most_bytes=max((step.text_bytes or 0 for step in steps), default=0),
            sources=_sources(steps),
            mix=made_of,
            vocabulary=vocabulary(shards),
            duplicates=duplicates(storage, record, marks) if marks is not None else None,
            quality=quality(notes, corpus),
            removals=removals(storage, record.recipe, corpus),
            models=trained,
            curves=curves(trained),
            evaluation=table(trained),
            samples=samples(trained),
            baselines=list(BASELINES.values()),
            timings=_timings(record),
            lineage=[_origin(entry, data, found) for entry, data in found],
            recipe=yaml.safe_dump(dict(record.config), sort_keys=False, allow_unicode=True),
            languages=NAMES,
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
        "whole": formatting.whole,
        "brief": formatting.brief,
        "size": formatting.size,
        "seconds": formatting.seconds,
        "figure": formatting.figure,
        "change": formatting.change,
        "significant": formatting.significant,
        "moment": formatting.moment,
        "short": lambda text: str(text)[:SHORT],
        "words": lambda text: str(text).replace("_", " "),
    }
    env.globals |= {"share": formatting.share}
    return env


def _open(storage: Storage, record: RunRecord) -> Found:
    found: list[tuple[StageRecord, Dataset | None]] = []
    for entry in record.stages:
        try:
            found.append((entry, entry.open(storage)))
        except (NotCommitted, BrokenPromise):
            found.append((entry, None))
    return found


def _one(found: Found, stage: str) -> Dataset | None:
    return next((data for entry, data in found if entry.stage == stage and data is not None), None)


def _tiles(
    record: RunRecord, steps: Sequence[Step], made_of: Mix | None, trained: Sequence[Model]
) -> list[Tile]:
    tiles = []
    if steps:
        first, last = steps[0], next((s for s in steps if s.stage == "select"), steps[-1])
        kept = "in the corpus" if last.stage == "select" else f"kept by {last.stage}"
        came = f"{kept}, of {formatting.whole(first.came)} that came in"
        tiles.append(Tile("Documents", formatting.whole(last.went_on), came))
        if last.text_bytes is not None:
            note = f"{kept}, UTF-8" if last.stage != "acquire" else "as fetched"
            tiles.append(Tile("Text", formatting.size(last.text_bytes), note))
    if made_of is not None and made_of.all_tokens is not None:
        rate = formatting.figure(made_of.bytes_per_token, 2)
        note = f"{rate} bytes each, vocabulary {formatting.whole(made_of.vocabulary or 0)}"
        tiles.append(Tile("Tokens", formatting.brief(made_of.all_tokens), note))
    rated = [model for model in trained if model.bits is not None]
    if rated:
        tiles.append(_bits(min(rated, key=lambda model: model.bits or 0), len(rated)))
    again = sum(entry.cached for entry in record.stages)
    note = f"{again} of {len(record.stages)} data sets were there already" if again else ""
    tiles.append(Tile("Duration", formatting.seconds(record.seconds), note))
    return tiles


def _bits(best: Model, count: int) -> Tile:
    said, mood = [], ""
    for key, name in BASELINES.items():
        against = best.against(key)
        if against is not None:
            said.append(f"{abs(100 * against):.0f} % {'below' if against < 0 else 'above'} {name}")
            mood = mood or ("better" if against < 0 else "worse")
    which = f"{best.name}: " if count > 1 else ""
    return Tile("Bits per byte", formatting.figure(best.bits), which + ", ".join(said), mood)


def _sources(steps: Sequence[Step]) -> list[str]:
    return list(dict.fromkeys(name for step in steps for name in step.by_source))


def _timings(record: RunRecord) -> list[Timing]:
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


def _origin(entry: StageRecord, data: Dataset | None, found: Found) -> Mapping[str, Any]:
    """A line of the lineage table."""
    labels = {other.fingerprint: other.label for other, _ in found}
    inputs = data.manifest.inputs if data is not None else ()
    return {
        "entry": entry,
        "there": data is not None,
        "content": data.content if data is not None else "",
        "code": data.manifest.code if data is not None else "",
        "bytes": sum(file.bytes for file in data.manifest.every_file) if data is not None else 0,
        "parts": len(data.manifest.parts) if data is not None else 0,
        "inputs": [
            labels.get(item["fingerprint"], f"{item['stage']} {item['fingerprint'][:SHORT]}")
            for item in inputs
        ],
    }
