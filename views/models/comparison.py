"""What a run did to the models of its recipe: trained or not, their scores, those before them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from infra.dataset.dataset import try_open_dataset
from infra.dataset.step import Steps, steps_with_output
from infra.registry.history import Event, load_history, model_state
from infra.registry.versions import load_version
from infra.runs.run_records import (
    COMPLETED,
    ModelRecord,
    RunRecord,
    iter_newest_first,
    with_earlier_results,
)
from infra.store.storage import Storage
from lm.metrics.conditions import (
    CHAMPION,
    PREVIOUS,
    Condition,
    ConditionError,
    Measurements,
    Verdict,
)
from views.models.measurements import find_scores, measure, measure_version
from views.models.suites import (
    ScoredModel,
    SuiteVerdict,
    compare_on_suites,
    load_scored_models,
    suite_metrics,
)
from views.report.formatting import format_delta, format_float, format_si
from views.report.sections.models import BASELINES, load_models

BITS_PER_BYTE = "bits_per_byte"
OWN = "own"
HEADER = ("model", "weights", "parameters", "tokens", "bits per byte", "before", "change")


@dataclass(frozen=True)
class ComparedModel:
    """A model of a recipe.

    Attributes:
        name: of its entry under ``train``.
        is_new: whether this run trained it; otherwise its weights were there.
        parameters: number of its weights.
        tokens: number of tokens that it was trained on.
        metrics: of its evaluation, nested; empty if it was not evaluated.
        previous: metrics of the model of this name before it was trained again, on the held-out
            documents of that time; ``None`` if there is none.
    """

    name: str
    is_new: bool
    parameters: int | None
    tokens: int | None
    metrics: Mapping[str, Any]
    previous: Mapping[str, Any] | None
    measured: Mapping[str, Measurements | None] = field(default_factory=dict, repr=False)

    @property
    def cells(self) -> list[str]:
        """Its row in the table, without the baselines."""
        value = self.metrics.get(BITS_PER_BYTE)
        before = (self.previous or {}).get(BITS_PER_BYTE)
        return [
            self.name,
            "trained" if self.is_new else "unchanged",
            "–" if self.parameters is None else format_si(self.parameters),
            "–" if self.tokens is None else format_si(self.tokens),
            format_float(value) if self.has_probability else "no probability",
            format_float(before),
            format_delta(value / before - 1) if value and before else "–",
        ]

    @property
    def has_probability(self) -> bool:
        """Whether it gives texts a probability, as far as is known; encoders and word vectors do not."""
        return not self.metrics or BITS_PER_BYTE in self.metrics

    @property
    def baselines(self) -> list[float | None]:
        """Bits per byte of the baselines on the same held-out documents."""
        known = self.metrics.get("baselines", {})
        return [known.get(name, {}).get(BITS_PER_BYTE) for name in BASELINES]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "name": self.name,
            "trained": self.is_new,
            "parameters": self.parameters,
            "tokens": self.tokens,
            "metrics": self.metrics,
            "previous": self.previous,
        }


@dataclass(frozen=True)
class Comparison:
    """The models of a recipe after a run, and how the conditions on them turned out."""

    record: RunRecord
    models: Sequence[ComparedModel]
    verdicts: Sequence[tuple[str, Verdict]]
    suites: Sequence[ScoredModel] = ()

    @property
    def passed(self) -> bool:
        """Whether the run completed and all conditions hold for all models."""
        return self.record.state == COMPLETED and all(item.passed for _, item in self.verdicts)

    @property
    def headline(self) -> str:
        """What the run trained, in a sentence."""
        trained = [model.name for model in self.models if model.is_new]
        if self.record.state != COMPLETED:
            return f"The run {self.record.state}: {self.record.error}"
        if trained:
            return f"Trained: {', '.join(trained)}."
        return "No model was trained: nothing that the models depend on has changed."

    @property
    def rows(self) -> list[list[str]]:
        """The table with its header."""
        columns = list(BASELINES.values())
        return [
            [*HEADER, *columns],
            *([*model.cells, *map(format_float, model.baselines)] for model in self.models),
        ]

    @property
    def verdict_rows(self) -> list[list[str]]:
        """The table of conditions with its header; empty without conditions."""
        if not self.verdicts:
            return []
        rows = [["condition", "model", "value", "limit", "result"]]
        for name, verdict in self.verdicts:
            limit = (
                "nothing to compare with"
                if verdict.limit is None
                else format_float(verdict.limit, 4)
            )
            result = "passed" if verdict.passed else "FAILED"
            rows.append([verdict.condition, name, format_float(verdict.value, 4), limit, result])
        return rows

    @cached_property
    def suite_verdicts(self) -> Sequence[SuiteVerdict]:
        """Which models are better than others on which suites."""
        return compare_on_suites(self.suites)

    @property
    def suite_rows(self) -> list[list[str]]:
        """The table of suites with its header; empty without suites."""
        if not self.suites:
            return []
        rows = [["suite", *(model.name for model in self.suites)]]
        for name in suite_metrics(self.suites):
            cells = [model.metrics.get(name, {}) for model in self.suites]
            rows.append([name.removeprefix("suite."), *map(_format_interval, cells)])
        return rows

    @property
    def suite_verdict_rows(self) -> list[list[str]]:
        """The table of differences with its header; empty if there are fewer than two models."""
        if not self.suite_verdicts:
            return []
        rows = [["model", "compared with", "on", "difference", "items", "items needed", "answer"]]
        for item in self.suite_verdicts:
            interval = f"{item.difference:+.4f} ({item.low:+.4f} to {item.high:+.4f})"
            needed = "–" if item.items_needed is None else format_si(item.items_needed)
            names = [item.a, item.b, item.metric.removeprefix("suite.")]
            rows.append([*names, interval, str(item.n), needed, item.answer])
        return rows

    @property
    def _tables(self) -> list[list[list[str]]]:
        return [self.rows, self.suite_rows, self.suite_verdict_rows, self.verdict_rows]

    def to_text(self) -> str:
        """Format for a terminal."""
        parts = [self.headline, *map(align_rows, filter(None, self._tables))]
        return "\n\n".join(parts)

    def to_markdown(self) -> str:
        """Format for the summary of a CI job."""
        title = f"### Models of {self.record.recipe}, run {self.record.run}"
        parts = [title, self.headline]
        parts += map(_markdown_table, filter(None, self._tables))
        return "\n\n".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "recipe": self.record.recipe,
            "run": self.record.run,
            "state": self.record.state,
            "error": self.record.error,
            "models": [model.to_json() for model in self.models],
            "conditions": [
                {"model": name, "condition": item.condition, "value": item.value}
                | {"limit": item.limit, "passed": item.passed}
                for name, item in self.verdicts
            ],
            "suites": [
                {"model": model.name, "metrics": list(model.metrics.values())}
                for model in self.suites
            ],
            "comparisons": [item.to_json() for item in self.suite_verdicts],
            "passed": self.passed,
        }


def compare_models(
    storage: Storage, record: RunRecord, steps: Steps, conditions: Sequence[Condition] = ()
) -> Comparison:
    """Compare the models of a run with those before them, and check conditions on each.

    A run that stopped before training has the models of earlier runs that are still valid.

    Raises:
        ConditionError: if a model was not evaluated, or lacks a metric of a condition.
    """
    results = with_earlier_results(storage, record)
    training = steps_with_output(steps, "model")
    built = {stage.entry for stage in record.stages if stage.stage in training and not stage.cached}
    history = load_history(storage, record.recipe)
    models = []
    for entry, model in zip(results.models, load_models(storage, results), strict=True):
        previous = _find_previous(storage, record, entry)
        own = measure(find_scores(storage, results, model.name))
        measured: dict[str, Measurements | None] = {
            OWN: replace(own, metrics={**model.metrics, **own.metrics}),
            PREVIOUS: None if previous is None else _measure_previous(storage, previous),
            CHAMPION: _measure_champion(storage, record.recipe, history, model.name),
        }
        models.append(
            ComparedModel(
                name=model.name,
                is_new=model.name in built,
                parameters=_integer(model.shape.get("parameters")),
                tokens=_integer(model.shape.get("tokens")),
                metrics=model.metrics,
                previous=None if previous is None else previous.metrics,
                measured=measured,
            )
        )
    verdicts = []
    for condition in conditions if record.state == COMPLETED else ():
        if not models:
            raise ConditionError(f"{condition.text!r}: {record.recipe} has no model")
        for item in models:
            own_measured = item.measured[OWN]
            if not item.metrics or own_measured is None:
                raise ConditionError(f"{condition.text!r}: {item.name} was not evaluated")
            verdicts.append((item.name, condition.check(own_measured, item.measured)))
    return Comparison(record, models, verdicts, load_scored_models(storage, results))


def _measure_previous(storage: Storage, previous: ModelRecord) -> Measurements:
    scores = None if previous.evaluate is None else try_open_dataset(storage, previous.evaluate)
    measured = measure([] if scores is None else [scores])
    return replace(measured, metrics={**previous.metrics, **measured.metrics})


def _measure_champion(
    storage: Storage, recipe: str, history: Sequence[Event], model: str
) -> Measurements | None:
    number = model_state(history, model).champion
    return (
        None if number is None else measure_version(storage, load_version(storage, recipe, number))
    )


def _find_previous(storage: Storage, record: RunRecord, model: ModelRecord) -> ModelRecord | None:
    """Return the model of this name that an earlier run trained last."""
    for older in iter_newest_first(storage, record.recipe):
        if older.run >= record.run:
            continue
        for other in older.models:
            if other.name == model.name and other.train != model.train and other.metrics:
                return other
    return None


def _format_interval(row: Mapping[str, Any]) -> str:
    if row.get("value") is None:
        return "–"
    value = format_float(row["value"])
    low, high = row["low"], row["high"]
    return value if low is None else f"{value} ({format_float(low)} to {format_float(high)})"


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) else None


def align_rows(rows: Sequence[Sequence[str]]) -> str:
    """Return a table for a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _markdown_table(rows: Sequence[Sequence[str]]) -> str:
    header, *body = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    rule = ["---"] * len(header)
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *body))
