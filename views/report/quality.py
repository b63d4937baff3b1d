"""How the documents spread over some quality signals, and what the rules made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from markupsafe import Markup

from infra.dataset.dataset import TABLE_SUFFIX, VERDICTS_SUFFIX, Dataset, PartRef
from infra.dataset.fingerprint import hash_to_unit
from infra.dataset.ledger import KEPT
from infra.schemas.quality_rules import RULES
from views.report.charts import histogram

BINS = 28
MAX_PARTS = 64  # read for the histograms; enough for their shape
AXIS_PERCENTILES = (1, 98)  # percentiles that the axis covers: one freak must not flatten the rest


@dataclass(frozen=True)
class SignalChart:
    """A signal worth a picture."""

    column: str
    title: str
    log: bool = False


SIGNALS = (
    SignalChart("language_score", "Certainty of the language"),
    SignalChart("gopher_quality_word_count", "Words", log=True),
    SignalChart("gopher_quality_mean_word_length", "Mean length of words"),
    SignalChart("gopher_quality_alpha_word_fraction", "Words with a letter"),
    SignalChart("gopher_repetition_dup_line_fraction", "Repeated lines"),
    SignalChart("gopher_repetition_top_2gram_char_fraction", "Text in the most frequent word pair"),
    SignalChart("gopher_repetition_dup_5gram_char_fraction", "Text in repeated runs of 5 words"),
    SignalChart("fineweb_line_punct_fraction", "Lines that end a sentence"),
    SignalChart("fineweb_short_line_fraction", "Short lines"),
    SignalChart("fineweb_newline_word_ratio", "Line breaks per word"),
)


@dataclass(frozen=True)
class SignalHistogram:
    """One signal's picture."""

    title: str
    column: str
    thresholds: Sequence[float]
    chart: Markup


@dataclass(frozen=True)
class Quality:
    """The pictures, and how many documents they speak of."""

    documents: int
    sampled: bool
    histograms: Sequence[SignalHistogram]


def build_quality(annotations: Sequence[Dataset], corpus: Dataset | None) -> Quality | None:
    """Histograms of the signals over all documents, kept and gone apart where select has spoken.

    Args:
        annotations: the annotations, in the order of the sources.
        corpus: what select made of them.
    """
    parts = [part for data in annotations for part in data.parts]
    if not parts:
        return None
    judges: Sequence[PartRef | None] = [None] * len(parts)
    if corpus is not None and len(corpus.parts) == len(parts):
        judges = corpus.parts
    pairs = sorted(
        zip(parts, judges, strict=True),
        key=lambda pair: hash_to_unit("quality", pair[0].source or "", pair[0].name),
    )
    columns = _signal_columns(parts[0])
    values: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in columns}
    stays: list[npt.NDArray[np.bool_]] = []
    for part, judge in pairs[:MAX_PARTS]:
        table = part.table(columns)
        for name in columns:
            values[name].append(table[name].cast("float64").to_numpy())
        stays.append(_kept_mask(judge, table.num_rows))
    kept = np.concatenate(stays)
    limits = _active_thresholds(corpus)
    shown = [
        _draw_histogram(signal, np.concatenate(values[signal.column]), kept, limits)
        for signal in SIGNALS
        if signal.column in values
    ]
    drawn = [item for item in shown if item is not None]
    return Quality(len(kept), len(parts) > MAX_PARTS, drawn) if drawn else None


def _signal_columns(part: PartRef) -> list[str]:
    with part.storage.open(part.file(TABLE_SUFFIX)) as stream:
        there = set(pq.read_schema(stream).names)
    return [signal.column for signal in SIGNALS if signal.column in there]


def _kept_mask(verdict_part: PartRef | None, rows: int) -> npt.NDArray[np.bool_]:
    """Which documents of a part stayed; all if nothing or nothing matching was said of them."""
    if verdict_part is None:
        return np.ones(rows, bool)
    with verdict_part.storage.open(verdict_part.file(VERDICTS_SUFFIX)) as stream:
        said = pq.read_table(stream, columns=["verdict"])["verdict"].to_pylist()
    return (
        np.array([verdict == KEPT for verdict in said], bool)
        if len(said) == rows
        else np.ones(rows, bool)
    )


def _active_thresholds(corpus: Dataset | None) -> dict[str, list[float]]:
    """The limits in force for any source, by signal."""
    if corpus is None:
        return {}
    config: Mapping[str, Any] = corpus.manifest.config
    found: dict[str, set[float]] = {}
    for own in (config, *(config.get("per_source") or {}).values()):
        quality, languages = own.get("quality_filters"), own.get("languages")
        names = quality if quality is not None else config.get("quality_filters") or ()
        changed = {**(config.get("thresholds") or {}), **(own.get("thresholds") or {})}
        for rule in (rule for name in names for rule in RULES.get(name, ())):
            limit = changed.get(rule.name, rule.threshold)
            if limit is not None:
                found.setdefault(rule.signal, set()).add(float(limit))
        found.setdefault("language_score", set()).update(map(float, (languages or {}).values()))
    return {name: sorted(values) for name, values in found.items()}


def _draw_histogram(
    signal: SignalChart,
    values: npt.NDArray[np.float64],
    kept: npt.NDArray[np.bool_],
    thresholds: Mapping[str, Sequence[float]],
) -> SignalHistogram | None:
    good = np.isfinite(values)
    values, kept = values[good], kept[good]
    if not len(values):
        return None
    own = thresholds.get(signal.column, [])
    scaled = np.log10(np.maximum(values, 1)) if signal.log else values
    low, high = (float(x) for x in np.percentile(scaled, AXIS_PERCENTILES))
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
        edges.tolist(), stayed.tolist(), went.tolist(), title=title, thresholds=own, log=signal.log
    )
    return SignalHistogram(signal.title, signal.column, own, chart)
