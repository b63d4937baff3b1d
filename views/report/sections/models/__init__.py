"""Training curves, the evaluation beside its baselines, and sample text."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from markupsafe import Markup

from infra.dataset.dataset import Dataset, try_open_dataset
from infra.runs.run_records import RunRecord
from infra.schemas.metrics import read_metrics
from infra.store.storage import Storage
from views.report.charts import SMALL, Line, line_chart
from views.report.formatting import format_float
from views.report.groups import LANGUAGE_NAMES
from views.report.report_run import ReportRun, Section, Tile

METRICS_FILE = "logs/metrics.jsonl"
LOSS, VALIDATION_LOSS = "loss", "validation_loss"
CURVE_TITLES = {
    "tokens_per_second": "Tokens per second",
    "mfu": "Model FLOPs utilization (MFU)",
    "gradient_norm": "Gradient norm",
    "learning_rate": "Learning rate",
}

BASELINES = {"trigram": "3-gram", "unigram": "unigram"}  # the stronger one first
MAX_SAMPLES = 8  # prompts
SHAPE_KEYS = (
    "parameters",
    "order",
    "algorithm",
    "vector_size",
    "num_layers",
    "hidden_size",
    "context_length",
    "steps",
    "tokens",
    "num_processes",
    "precision",
)


@dataclass(frozen=True)
class Cell:
    """A model's bits per byte on some text, and the relative difference to the better baseline.

    Attributes:
        interval: both ends of the 95 % interval, which is known of all held-out text.
    """

    value: float | None
    delta: float | None
    interval: tuple[float, float] | None = None

    @property
    def css_class(self) -> str:
        """``better``, ``worse`` or empty."""
        return "" if not self.delta else "better" if self.delta < 0 else "worse"


@dataclass(frozen=True)
class EvaluationRow:
    """A row of the evaluation table: some text, the baselines and each model on it."""

    group: str
    name: str
    documents: int
    bytes: int
    baselines: Sequence[float | None]
    cells: Sequence[Cell]
    best_index: int | None


@dataclass
class Sample:
    """A prompt, each model's continuation (by name), and the document's own."""

    id: str
    url: str | None
    language: str | None
    prompt: str
    continuation: str
    generated: dict[str, str] = field(default_factory=dict)


@dataclass
class ReportModel:
    """A trained model as the page shows it."""

    name: str
    index: int
    shape: Mapping[str, Any] = field(default_factory=dict)
    release: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    samples: Sequence[Mapping[str, Any]] = ()
    log: Sequence[Mapping[str, Any]] = ()
    formats: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def bits_per_byte(self) -> float | None:
        """Bits per byte on all held-out text."""
        return self.metrics.get("bits_per_byte")


@dataclass(frozen=True)
class Models:
    """The models of a run, with curves (title and chart), evaluation and samples."""

    models: Sequence[ReportModel]
    curves: Sequence[tuple[str, Markup]]
    evaluation: Sequence[EvaluationRow]
    samples: Sequence[Sample]
    baselines: Sequence[str]


def collect(run: ReportRun) -> Models | None:
    """Return the run's models; ``None`` if there are none."""
    models = load_models(run.storage, run.record)
    if not models:
        return None
    return Models(
        models,
        draw_curves(models),
        build_evaluation_table(models),
        collect_samples(models, run),
        list(BASELINES.values()),
    )


def load_models(storage: Storage, record: RunRecord) -> list[ReportModel]:
    """Load the run's models, in the order of the recipe, with their data sets that exist."""
    models = []
    for index, entry in enumerate(record.models):
        model = ReportModel(entry.name, index, release=entry.release, metrics=entry.metrics)
        trained = try_open_dataset(storage, entry.train) if entry.train else None
        if trained is not None:
            model.shape = _read_shape(trained)
            model.log = _read_log(trained)
        released = try_open_dataset(storage, entry.release) if entry.release else None
        if released is not None:
            model.formats = released.stats.get("formats", {})
        evaluated = try_open_dataset(storage, entry.evaluate) if entry.evaluate else None
        if evaluated is not None:
            model.metrics = evaluated.stats.get("metrics", entry.metrics)
            model.samples = evaluated.stats.get("samples", ())
            model.interval = next(
                (
                    (row["low"], row["high"])
                    for row in read_metrics(evaluated).to_pylist()
                    if row["name"] == "bits_per_byte" and row["low"] is not None
                ),
                None,
            )
        models.append(model)
    return models


def _read_shape(trained: Dataset) -> dict[str, Any]:
    """Return the settings that distinguish models, from the stats or the configuration."""
    config = trained.manifest.config
    sections = (value for value in config.values() if isinstance(value, Mapping))
    known: dict[str, Any] = {}
    for values in (config, *sections, trained.stats):
        known |= values
    return {
        name: known[name] for name in SHAPE_KEYS if isinstance(known.get(name), int | float | str)
    }


def _read_log(trained: Dataset) -> list[dict[str, Any]]:
    if METRICS_FILE not in trained.manifest.files:
        return []
    lines = []
    for line in trained.read(METRICS_FILE).splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:  # cut off by a crash
            continue
    return [line for line in lines if isinstance(line, dict) and "step" in line]


def collect_samples(models: Sequence[ReportModel], run: ReportRun) -> list[Sample]:
    """Group the continuations of all models by prompt; removed documents are left out."""
    prompts: dict[tuple[str, str], Sample] = {}
    for model in models:
        for item in model.samples:
            key = (str(item.get("id", "")), item.get("prompt") or "")
            sample = prompts.setdefault(
                key,
                Sample(
                    key[0],
                    item.get("url"),
                    item.get("language"),
                    key[1],
                    item.get("continuation") or "",
                ),
            )
            sample.generated[model.name] = item.get("generated") or ""
    removed = run.find_removed({sample.id: sample.url for sample in prompts.values()})
    return [sample for sample in prompts.values() if sample.id not in removed][:MAX_SAMPLES]


def draw_curves(models: Sequence[ReportModel]) -> list[tuple[str, Markup]]:
    """Draw one chart per logged metric, with all models in each; the loss first."""
    losses = []
    for model in models:
        training, heldout = _curve_points(model, LOSS), _curve_points(model, VALIDATION_LOSS)
        losses.append(Line(f"{model.name}, training", training, model.index, faint=True))
        losses.append(Line(f"{model.name}, held out", heldout, model.index, dots=True))
    title = "Loss in nats per token; thin: training, bold: held-out documents"
    drawn = [(title, line_chart(losses, title=title))]
    for key, name in CURVE_TITLES.items():
        lines = [Line(model.name, _curve_points(model, key), model.index) for model in models]
        drawn.append((name, line_chart(lines, title=name, size=SMALL, from_zero=True)))
    return [(title, chart) for title, chart in drawn if chart]


def _curve_points(model: ReportModel, key: str) -> list[tuple[float, float]]:
    return [
        (float(line.get("tokens", line["step"])), float(line[key]))
        for line in model.log
        if isinstance(line.get(key), int | float)
    ]


def build_evaluation_table(models: Sequence[ReportModel]) -> list[EvaluationRow]:
    """Build the rows of the evaluation: overall, by source, by language."""
    rated = [model for model in models if model.bits_per_byte is not None]
    if not rated:
        return []
    overall = _build_row("", "all held-out text", [model.metrics for model in rated])
    cells = zip(overall.cells, rated, strict=True)
    rows = [
        replace(overall, cells=[replace(cell, interval=model.interval) for cell, model in cells])
    ]
    for group in ("source", "language"):
        rows += _group_rows(group, rated)
    return rows


def _group_rows(group: str, models: Sequence[ReportModel]) -> Iterator[EvaluationRow]:
    by_model = [model.metrics.get(f"by_{group}", {}) for model in models]
    names = {name: values["bytes"] for metrics in by_model for name, values in metrics.items()}
    for name in sorted(names, key=lambda name: (-names[name], name)):
        title = LANGUAGE_NAMES.get(name, name) if group == "language" else name
        yield _build_row(group, title, [metrics.get(name, {}) for metrics in by_model])


def _build_row(group: str, name: str, metrics: Sequence[Mapping[str, Any]]) -> EvaluationRow:
    first = next((values for values in metrics if values), {})
    by_baseline = first.get("baselines", {})
    baselines = [by_baseline.get(baseline, {}).get("bits_per_byte") for baseline in BASELINES]
    # Models are compared with the better baseline on the same text.
    reference = min((value for value in baselines if value), default=None)
    cells = []
    for model in metrics:
        value = model.get("bits_per_byte")
        delta = value / reference - 1 if value is not None and reference else None
        cells.append(Cell(value, delta))
    values = [cell.value for cell in cells if cell.value is not None]
    best = None
    if len(values) > 1:
        best = next(index for index, cell in enumerate(cells) if cell.value == min(values))
    return EvaluationRow(
        group, name, first.get("documents", 0), first.get("bytes", 0), baselines, cells, best
    )


def tiles(run: ReportRun, data: Models) -> list[Tile]:
    """Return the bits per byte of the best model, compared with the baselines."""
    del run
    rated = [model for model in data.models if model.bits_per_byte is not None]
    if not rated:
        return []
    best = min(rated, key=lambda model: model.bits_per_byte or 0)
    comparisons, css_class = [], ""
    for name, baseline in zip(data.baselines, data.evaluation[0].baselines, strict=True):
        if best.bits_per_byte is not None and baseline:
            delta = best.bits_per_byte / baseline - 1
            side = "below" if delta < 0 else "above"
            comparisons.append(f"{abs(100 * delta):.0f} % {side} {name}")
            css_class = css_class or ("better" if delta < 0 else "worse")
    note = (f"{best.name}: " if len(rated) > 1 else "") + ", ".join(comparisons)
    return [Tile("Bits per byte", format_float(best.bits_per_byte), note, css_class)]


SECTION = Section("models", "Models", collect, tiles)
