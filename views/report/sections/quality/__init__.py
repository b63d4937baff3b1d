"""Distribution of quality signals, kept and dropped documents apart, with the thresholds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
from markupsafe import Markup

from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.fingerprint import hash_to_unit
from infra.dataset.ledger import KEPT
from infra.schemas.quality_rules import RULES
from views.documents.texts import column_names
from views.report.charts import histogram
from views.report.report_run import ReportRun, Section

BINS = 28
MAX_PARTS = 64  # read for the histograms; enough for their shape
AXIS_PERCENTILES = (1, 98)  # that the axis covers: one outlier must not flatten the rest


@dataclass(frozen=True)
class SignalChart:
    """A signal that has a histogram; on a logarithmic axis if ``log``."""

    column: str
    title: str
    log: bool = False


SIGNALS = (
    SignalChart("language_score", "Score of the language"),
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
    """The histogram of one signal."""

    title: str
    column: str
    chart: Markup


@dataclass(frozen=True)
class Quality:
    """The histograms, and how many documents they show."""

    documents: int
    sampled: bool
    histograms: Sequence[SignalHistogram]


def collect(run: ReportRun) -> Quality | None:
    """Draw the signals of the run's documents; ``None`` if there are none."""
    return build_quality(run.datasets("annotations"), run.dataset("corpus"))


def build_quality(annotations: Sequence[Dataset], corpus: Dataset | None) -> Quality | None:
    """Draw the signals over all documents; dropped ones apart if there is a corpus.

    The annotations are those of the corpus, in the order of the sources.
    """
    parts = [part for data in annotations for part in data.parts]
    if not parts:
        return None
    verdict_parts: Sequence[PartRef | None] = [None] * len(parts)
    if corpus is not None and len(corpus.parts) == len(parts):
        verdict_parts = corpus.parts
    pairs = sorted(
        zip(parts, verdict_parts, strict=True),
        key=lambda pair: hash_to_unit("quality", pair[0].source or "", pair[0].name),
    )
    existing = column_names(parts[0])
    columns = [signal.column for signal in SIGNALS if signal.column in existing]
    values: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in columns}
    masks: list[npt.NDArray[np.bool_]] = []
    for part, verdict_part in pairs[:MAX_PARTS]:
        table = part.table(columns)
        for name in columns:
            values[name].append(table[name].cast("float64").to_numpy())
        masks.append(_kept_mask(verdict_part, table.num_rows))
    kept = np.concatenate(masks)
    thresholds = _active_thresholds(corpus)
    histograms = [
        _draw_histogram(signal, np.concatenate(values[signal.column]), kept, thresholds)
        for signal in SIGNALS
        if signal.column in values
    ]
    drawn = [item for item in histograms if item is not None]
    return Quality(len(kept), len(parts) > MAX_PARTS, drawn) if drawn else None


def _kept_mask(verdict_part: PartRef | None, rows: int) -> npt.NDArray[np.bool_]:
    """Return which documents of a part were kept; all if there are no matching verdicts."""
    if verdict_part is None:
        return np.ones(rows, bool)
    verdicts = verdict_part.verdicts(["verdict"])["verdict"]
    if len(verdicts) != rows:
        return np.ones(rows, bool)
    return np.asarray(pc.equal(verdicts, KEPT), bool)


def _active_thresholds(corpus: Dataset | None) -> dict[str, list[float]]:
    """Return the active thresholds of all sources, by signal."""
    if corpus is None:
        return {}
    config: Mapping[str, Any] = corpus.manifest.config
    active: dict[str, set[float]] = {}
    for own in (config, *(config.get("per_source") or {}).values()):
        quality, languages = own.get("quality_filters"), own.get("languages")
        names = quality if quality is not None else config.get("quality_filters") or ()
        changed = {**(config.get("thresholds") or {}), **(own.get("thresholds") or {})}
        for rule in (rule for name in names for rule in RULES.get(name, ())):
            threshold = changed.get(rule.name, rule.threshold)
            if threshold is not None:
                active.setdefault(rule.signal, set()).add(float(threshold))
        active.setdefault("language_score", set()).update(map(float, (languages or {}).values()))
    return {name: sorted(values) for name, values in active.items()}


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
    positions = [float(np.log10(max(x, 1))) if signal.log else x for x in own]
    # A threshold close to the documents is shown, one far from them is not.
    span = (high - low) or 1.0
    near = [x for x in positions if low - span <= x <= high + span]
    low, high = min([low, *near]), max([high, *near])
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BINS + 1)
    inside = np.clip(scaled, low, high)
    n_kept, _ = np.histogram(inside[kept], edges)
    n_dropped, _ = np.histogram(inside[~kept], edges)
    title = f"{signal.title}: {len(values)} documents, {int((~kept).sum())} of them dropped"
    chart = histogram(
        edges.tolist(),
        n_kept.tolist(),
        n_dropped.tolist(),
        title=title,
        thresholds=own,
        log=signal.log,
    )
    return SignalHistogram(signal.title, signal.column, chart)


SECTION = Section("quality", "Quality signals", collect)
