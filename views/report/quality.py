"""How the documents spread over some quality signals, and what the rules made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from markupsafe import Markup

from infra.dataset.dataset import TABLE, VERDICTS, Dataset, PartRef
from infra.dataset.fingerprint import unit_interval
from infra.dataset.ledger import KEPT
from infra.schemas.quality_rules import RULES
from views.report.charts import histogram

BINS = 28
MOST_PARTS = 64  # read for the histograms; enough for their shape
SPREAD = (1, 98)  # percentiles that the axis covers: one freak must not flatten the rest


@dataclass(frozen=True)
class Shown:
    """A signal worth a picture."""

    column: str
    title: str
    log: bool = False


SIGNALS = (
    Shown("language_score", "Certainty of the language"),
    Shown("gopher_quality_word_count", "Words", log=True),
    Shown("gopher_quality_mean_word_length", "Mean length of words"),
    Shown("gopher_quality_alpha_word_fraction", "Words with a letter"),
    Shown("gopher_repetition_dup_line_fraction", "Repeated lines"),
    Shown("gopher_repetition_top_2gram_char_fraction", "Text in the most frequent word pair"),
    Shown("gopher_repetition_dup_5gram_char_fraction", "Text in repeated runs of 5 words"),
    Shown("fineweb_line_punct_fraction", "Lines that end a sentence"),
    Shown("fineweb_short_line_fraction", "Short lines"),
    Shown("fineweb_newline_word_ratio", "Line breaks per word"),
)


@dataclass(frozen=True)
class Histogram:
    """One signal's picture."""

    title: str
    column: str
    limits: Sequence[float]
    chart: Markup


@dataclass(frozen=True)
class Quality:
    """The pictures, and how many documents they speak of."""

    documents: int
    sampled: bool
    histograms: Sequence[Histogram]


def quality(notes: Sequence[Dataset], corpus: Dataset | None) -> Quality | None:
    """Histograms of the signals over all documents, kept and gone apart where select has spoken.

    Args:
        notes: the annotations, in the order of the sources.
        corpus: what select made of them.
    """
    parts = [part for data in notes for part in data.parts]
    if not parts:
        return None
    judges: Sequence[PartRef | None] = [None] * len(parts)
    if corpus is not None and len(corpus.parts) == len(parts):
        judges = corpus.parts
    pairs = sorted(
        zip(parts, judges, strict=True),
        key=lambda pair: unit_interval("quality", pair[0].source or "", pair[0].name),
    )
    columns = _columns(parts[0])
    values: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in columns}
    stays: list[npt.NDArray[np.bool_]] = []
    for part, judge in pairs[:MOST_PARTS]:
        table = part.table(columns)
        for name in columns:
            values[name].append(table[name].cast("float64").to_numpy())
        stays.append(_kept(judge, table.num_rows))
    kept = np.concatenate(stays)
    limits = _limits(corpus)
    shown = [
        _histogram(signal, np.concatenate(values[signal.column]), kept, limits)
        for signal in SIGNALS
        if signal.column in values
    ]
    drawn = [item for item in shown if item is not None]
    return Quality(len(kept), len(parts) > MOST_PARTS, drawn) if drawn else None


def _columns(part: PartRef) -> list[str]:
    with part.storage.open(part.file(TABLE)) as stream:
        there = set(pq.read_schema(stream).names)
    return [signal.column for signal in SIGNALS if signal.column in there]


def _kept(judge: PartRef | None, rows: int) -> npt.NDArray[np.bool_]:
    """Which documents of a part stayed; all if nothing or nothing matching was said of them."""
    if judge is None:
        return np.ones(rows, bool)
    with judge.storage.open(judge.file(VERDICTS)) as stream:
        said = pq.read_table(stream, columns=["verdict"])["verdict"].to_pylist()
    return (
        np.array([verdict == KEPT for verdict in said], bool)
        if len(said) == rows
        else np.ones(rows, bool)
    )


def _limits(corpus: Dataset | None) -> dict[str, list[float]]:
    """The limits in force for any source, by signal."""
    if corpus is None:
        return {}
    config: Mapping[str, Any] = corpus.manifest.config
    found: dict[str, set[float]] = {}
    for own in (config, *(config.get("overrides") or {}).values()):
        quality, languages = own.get("quality"), own.get("languages")
        names = quality if quality is not None else config.get("quality") or ()
        changed = {**(config.get("rules") or {}), **(own.get("rules") or {})}
        for rule in (rule for name in names for rule in RULES.get(name, ())):
            limit = changed.get(rule.name, rule.threshold)
            if limit is not None:
                found.setdefault(rule.signal, set()).add(float(limit))
        found.setdefault("language_score", set()).update(map(float, (languages or {}).values()))
    return {name: sorted(values) for name, values in found.items()}


def _histogram(
    signal: Shown,
    values: npt.NDArray[np.float64],
    kept: npt.NDArray[np.bool_],
    limits: Mapping[str, Sequence[float]],
) -> Histogram | None:
    good = np.isfinite(values)
    values, kept = values[good], kept[good]
    if not len(values):
        return None
    own = limits.get(signal.column, [])
    scaled = np.log10(np.maximum(values, 1)) if signal.log else values
    low, high = (float(x) for x in np.percentile(scaled, SPREAD))
    marks = [float(np.log10(max(x, 1))) if signal.log else x for x in own]
    # A limit close to the documents belongs into the picture, one far from them does not.
    span = (high - low) or 1.0
    near = [x for x in marks if low - span <= x <= high + span]
    low, high = min([low, *near]), max([high, *near])
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BINS + 1)
    inside = np.clip(scaled, low, high)
    stayed, _ = np.histogram(inside[kept], edges)
    went, _ = np.histogram(inside[~kept], edges)
    title = f"{signal.title}: {len(values)} documents, {int((~kept).sum())} of them gone"
    chart = histogram(
        edges.tolist(), stayed.tolist(), went.tolist(), title=title, limits=own, log=signal.log
    )
    return Histogram(signal.title, signal.column, own, chart)
