"""What training bought: curves, the evaluation table beside its baselines, sample text."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from infra.dataset.dataset import BrokenPromise, Dataset, NotCommitted
from infra.runs.run_records import RunRecord
from infra.store.storage import Storage
from views.report.charts import SMALL, Line, line_chart
from views.report.corpus import NAMES

METRICS = "records/metrics.jsonl"
LOSS, VALIDATION = "loss", "validation_loss"
OTHERS = {
    "tokens_per_second": "Tokens per second",
    "mfu": "Share of the machine's peak",
    "gradient_norm": "Norm of the gradient",
    "learning_rate": "Learning rate",
}

BASELINES = {"trigram": "3-gram", "unigram": "unigram"}  # the strongest first
MOST_SAMPLES = 8  # prompts
SHAPE = ("parameters", "layers", "width", "context", "steps", "tokens", "processes", "precision")


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
        against: relative difference to the strongest baseline: -0.1 is 10 % fewer bits.
    """

    value: float | None
    against: float | None

    @property
    def mood(self) -> str:
        """``better``, ``worse`` or nothing: a CSS class."""
        return "" if not self.against else "better" if self.against < 0 else "worse"


@dataclass(frozen=True)
class Row:
    """A line of the evaluation table: some text, the baselines on it, each model on it."""

    group: str
    name: str
    documents: int
    bytes: int
    baselines: Sequence[float | None]
    cells: Sequence[Cell]
    best: int | None


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
class Model:
    """A trained model as the page shows it."""

    name: str
    place: int
    shape: Mapping[str, Any] = field(default_factory=dict)
    release: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    samples: Sequence[Mapping[str, Any]] = ()
    log: Sequence[Mapping[str, Any]] = ()

    @property
    def bits(self) -> float | None:
        """Bits per byte over all held-out text."""
        return self.metrics.get("bits_per_byte")

    def against(self, baseline: str) -> float | None:
        """Relative difference of bits per byte to a baseline's; -0.1 is 10 % fewer."""
        theirs = self.metrics.get("baselines", {}).get(baseline, {}).get("bits_per_byte")
        return None if self.bits is None or not theirs else self.bits / theirs - 1


def models(storage: Storage, record: RunRecord) -> list[Model]:
    """The run's models, in the order of the recipe, with whatever of them is still there."""
    found = []
    for place, entry in enumerate(record.models):
        model = Model(entry.name, place, release=entry.release, metrics=entry.metrics)
        trained = _open(storage, entry.train)
        if trained is not None:
            model.shape = _shape(trained)
            model.log = _log(trained)
        evaluated = _open(storage, entry.evaluate)
        if evaluated is not None:
            model.metrics = evaluated.facts.get("metrics", entry.metrics)
            model.samples = evaluated.facts.get("samples", ())
        found.append(model)
    return found


def _open(storage: Storage, path: str | None) -> Dataset | None:
    from infra.dataset.dataset import open_dataset

    try:
        return open_dataset(storage.at(*path.split("/"))) if path else None
    except (NotCommitted, BrokenPromise):
        return None


def _shape(trained: Dataset) -> dict[str, Any]:
    """The few settings that tell models apart, from the facts first, then the configuration."""
    known = {**trained.manifest.config, **trained.facts}
    return {name: known[name] for name in SHAPE if isinstance(known.get(name), int | float | str)}


def _log(trained: Dataset) -> list[dict[str, Any]]:
    if METRICS not in trained.manifest.files:
        return []
    lines = []
    for line in trained.read(METRICS).splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:  # torn by a crash
            continue
    return [line for line in lines if isinstance(line, dict) and "step" in line]


def samples(found: Sequence[Model]) -> list[Sample]:
    """What the models made of the same prompts, beside each other."""
    prompts: dict[tuple[str, str], Sample] = {}
    for model in found:
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
    return list(prompts.values())[:MOST_SAMPLES]


def curves(found: Sequence[Model]) -> list[Curve]:
    """One chart per logged figure, all models in each; the loss first."""
    drawn = []
    losses = [
        line
        for model in found
        for line in (
            Line(f"{model.name}, training", _points(model, LOSS), model.place, faint=True),
            Line(f"{model.name}, held out", _points(model, VALIDATION), model.place, dots=True),
        )
    ]
    title = "Loss in nats per token; thin: training, bold: held-out documents"
    drawn.append(Curve(title, line_chart(losses, title=title)))
    for key, name in OTHERS.items():
        lines = [Line(model.name, _points(model, key), model.place) for model in found]
        chart = line_chart(lines, title=name, size=SMALL, from_zero=True)
        drawn.append(Curve(name, chart))
    return [curve for curve in drawn if curve.chart]


def _points(model: Model, key: str) -> list[tuple[float, float]]:
    return [
        (float(line.get("tokens", line["step"])), float(line[key]))
        for line in model.log
        if isinstance(line.get(key), int | float)
    ]


def table(found: Sequence[Model]) -> list[Row]:
    """The evaluation: overall, by source, by language."""
    rated = [model for model in found if model.bits is not None]
    if not rated:
        return []
    rows = [_row("", "all held-out text", [model.metrics for model in rated])]
    for group in ("source", "language"):
        rows += _rows(group, rated)
    return rows


def _rows(group: str, rated: Sequence[Model]) -> Iterator[Row]:
    figures = [model.metrics.get(f"by_{group}", {}) for model in rated]
    names = {name: own["bytes"] for one in figures for name, own in one.items()}
    for name in sorted(names, key=lambda name: (-names[name], name)):
        title = NAMES.get(name, name) if group == "language" else name
        yield _row(group, title, [one.get(name, {}) for one in figures])


def _row(group: str, name: str, figures: Sequence[Mapping[str, Any]]) -> Row:
    first = next((one for one in figures if one), {})
    rates = first.get("baselines", {})
    baselines = [rates.get(baseline, {}).get("bits_per_byte") for baseline in BASELINES]
    # The strongest baseline on this very text is the one to beat.
    bar = min((value for value in baselines if value), default=None)
    cells = []
    for one in figures:
        value = one.get("bits_per_byte")
        cells.append(Cell(value, value / bar - 1 if value is not None and bar else None))
    values = [cell.value for cell in cells if cell.value is not None]
    best = None
    if len(values) > 1:
        best = next(place for place, cell in enumerate(cells) if cell.value == min(values))
    return Row(
        group, name, first.get("documents", 0), first.get("bytes", 0), baselines, cells, best
    )
