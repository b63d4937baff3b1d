"""What training bought: curves, the evaluation table beside its baselines, sample text."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from infra.dataset.dataset import Dataset, DatasetNotFoundError, IntegrityError
from infra.runs.run_records import RunRecord
from infra.store.storage import Storage
from views.report.charts import SMALL, Line, line_chart
from views.report.corpus import LANGUAGE_NAMES

METRICS_FILE = "logs/metrics.jsonl"
LOSS, VALIDATION_LOSS = "loss", "validation_loss"
CURVE_TITLES = {
    "tokens_per_second": "Tokens per second",
    "mfu": "Share of the machine's peak",
    "gradient_norm": "Norm of the gradient",
    "learning_rate": "Learning rate",
}

BASELINES = {"trigram": "3-gram", "unigram": "unigram"}  # the strongest first
MAX_SAMPLES = 8  # prompts
SHAPE_KEYS = (
    "parameters",
    "num_layers",
    "hidden_size",
    "context_length",
    "steps",
    "tokens",
    "num_processes",
    "precision",
)


@dataclass(frozen=True)
class Curve:
    """A chart over the tokens seen, all models in it."""

    title: str
    chart: Markup


@dataclass(frozen=True)
class Cell:
    """A model's bits per byte for some text, and how it compares.

    Attributes:
        value: bits per byte; ``None`` if not measured.
        delta: relative difference to the strongest baseline: -0.1 is 10 % fewer bits.
    """

    value: float | None
    delta: float | None

    @property
    def css_class(self) -> str:
        """``better``, ``worse`` or nothing: a CSS class."""
        return "" if not self.delta else "better" if self.delta < 0 else "worse"


@dataclass(frozen=True)
class EvaluationRow:
    """A line of the evaluation table: some text, the baselines on it, each model on it."""

    group: str
    name: str
    documents: int
    bytes: int
    baselines: Sequence[float | None]
    cells: Sequence[Cell]
    best_index: int | None


@dataclass
class Sample:
    """A prompt, what each model made of it (by name), and what the document said."""

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
    samples: Sequence[Mapping[str, Any]] = ()
    log: Sequence[Mapping[str, Any]] = ()

    @property
    def bits_per_byte(self) -> float | None:
        """Bits per byte over all held-out text."""
        return self.metrics.get("bits_per_byte")

    def delta_to_baseline(self, baseline: str) -> float | None:
        """Relative difference of bits per byte to a baseline's; -0.1 is 10 % fewer."""
        theirs = self.metrics.get("baselines", {}).get(baseline, {}).get("bits_per_byte")
        return None if self.bits_per_byte is None or not theirs else self.bits_per_byte / theirs - 1


def load_models(storage: Storage, record: RunRecord) -> list[ReportModel]:
    """The run's models, in the order of the recipe, with whatever of them is still there."""
    found = []
    for place, entry in enumerate(record.models):
        model = ReportModel(entry.name, place, release=entry.release, metrics=entry.metrics)
        trained = _try_open(storage, entry.train)
        if trained is not None:
            model.shape = _read_shape(trained)
            model.log = _read_log(trained)
        evaluated = _try_open(storage, entry.evaluate)
        if evaluated is not None:
            model.metrics = evaluated.stats.get("metrics", entry.metrics)
            model.samples = evaluated.stats.get("samples", ())
        found.append(model)
    return found


def _try_open(storage: Storage, path: str | None) -> Dataset | None:
    from infra.dataset.dataset import open_dataset

    try:
        return open_dataset(storage.subdir(*path.split("/"))) if path else None
    except (DatasetNotFoundError, IntegrityError):
        return None


def _read_shape(trained: Dataset) -> dict[str, Any]:
    """The few settings that tell models apart, from the facts first, then the configuration."""
    sections = (trained.manifest.config.get(name, {}) for name in ("model", "run"))
    known = {key: value for section in (*sections, trained.stats) for key, value in section.items()}
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
        except ValueError:  # torn by a crash
            continue
    return [line for line in lines if isinstance(line, dict) and "step" in line]


def collect_samples(models: Sequence[ReportModel]) -> list[Sample]:
    """What the models made of the same prompts, beside each other."""
    prompts: dict[tuple[str, str], Sample] = {}
    for model in models:
        for item in model.samples:
            key = (str(item.get("id", "")), item.get("prompt") or "")
            shown = prompts.setdefault(
                key,
                Sample(
                    key[0],
                    item.get("url"),
                    item.get("language"),
                    key[1],
                    item.get("continuation") or "",
                ),
            )
            shown.generated[model.name] = item.get("generated") or ""
    return list(prompts.values())[:MAX_SAMPLES]


def draw_curves(models: Sequence[ReportModel]) -> list[Curve]:
    """One chart per logged figure, all models in each; the loss first."""
    drawn = []
    losses = [
        line
        for model in models
        for line in (
            Line(f"{model.name}, training", _curve_points(model, LOSS), model.index, faint=True),
            Line(
                f"{model.name}, held out",
                _curve_points(model, VALIDATION_LOSS),
                model.index,
                dots=True,
            ),
        )
    ]
    title = "Loss in nats per token; thin: training, bold: held-out documents"
    drawn.append(Curve(title, line_chart(losses, title=title)))
    for key, name in CURVE_TITLES.items():
        lines = [Line(model.name, _curve_points(model, key), model.index) for model in models]
        chart = line_chart(lines, title=name, size=SMALL, from_zero=True)
        drawn.append(Curve(name, chart))
    return [curve for curve in drawn if curve.chart]


def _curve_points(model: ReportModel, key: str) -> list[tuple[float, float]]:
    return [
        (float(line.get("tokens", line["step"])), float(line[key]))
        for line in model.log
        if isinstance(line.get(key), int | float)
    ]


def build_evaluation_table(models: Sequence[ReportModel]) -> list[EvaluationRow]:
    """The evaluation: overall, by source, by language."""
    rated = [model for model in models if model.bits_per_byte is not None]
    if not rated:
        return []
    rows = [_build_row("", "all held-out text", [model.metrics for model in rated])]
    for group in ("source", "language"):
        rows += _group_rows(group, rated)
    return rows


def _group_rows(group: str, models: Sequence[ReportModel]) -> Iterator[EvaluationRow]:
    figures = [model.metrics.get(f"by_{group}", {}) for model in models]
    names = {name: own["bytes"] for one in figures for name, own in one.items()}
    for name in sorted(names, key=lambda name: (-names[name], name)):
        title = LANGUAGE_NAMES.get(name, name) if group == "language" else name
        yield _build_row(group, title, [one.get(name, {}) for one in figures])


def _build_row(group: str, name: str, metrics: Sequence[Mapping[str, Any]]) -> EvaluationRow:
    first = next((one for one in metrics if one), {})
    rates = first.get("baselines", {})
    baselines = [rates.get(baseline, {}).get("bits_per_byte") for baseline in BASELINES]
    # The strongest baseline on this very text is the one to beat.
    bar = min((value for value in baselines if value), default=None)
    cells = []
    for one in metrics:
        value = one.get("bits_per_byte")
        cells.append(Cell(value, value / bar - 1 if value is not None and bar else None))
    values = [cell.value for cell in cells if cell.value is not None]
    best = None
    if len(values) > 1:
        best = next(place for place, cell in enumerate(cells) if cell.value == min(values))
    return EvaluationRow(
        group, name, first.get("documents", 0), first.get("bytes", 0), baselines, cells, best
    )
