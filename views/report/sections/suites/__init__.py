"""Suites: every model on every suite, which differences can be told, and what the training text holds of the items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from infra.dataset.dataset import Dataset, try_open_dataset
from infra.schemas.metrics import CLEAN
from views.history.training_data import TracedRun, trace_if_in_steps
from views.models.suites import (
    ScoredModel,
    SuiteVerdict,
    clean_name,
    compare_on_suites,
    load_scored_models,
    suite_metrics,
)
from views.report.report_run import ReportRun, Section
from views.report.sections.suites.chart import Interval, interval_chart

DOMAIN_METRICS = (
    "bits_per_byte",
    "accuracy",
    "gap",
    "flagged",
)  # of which a chart by domain is drawn
MAX_STEPS = 3  # of a model that are named for an example


@dataclass(frozen=True)
class MetricRow:
    """A row of the table: a metric of a suite, and each model's value.

    Attributes:
        suite: its name.
        metric: such as ``accuracy``.
        cells: rows of ``infra.schemas.metrics.METRICS``; ``None`` where a model has none.
        clean: the same over the items that are not in the training text; empty if all are clean.
    """

    suite: str
    metric: str
    cells: Sequence[Mapping[str, Any] | None]
    clean: Sequence[Mapping[str, Any] | None]


@dataclass(frozen=True)
class ContaminatedItem:
    """An item that stands in the training text, with a document that holds it.

    Attributes:
        row: its numbers and the document (``tasks.suites``).
        steps: by model, steps of training whose rows held tokens of the document.
    """

    suite: str
    row: Mapping[str, Any]
    steps: Mapping[str, Sequence[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class SuiteResults:
    """The results of a run on its suites."""

    models: Sequence[str]
    suites: Sequence[Mapping[str, Any]]
    rows: Sequence[MetricRow]
    charts: Sequence[tuple[str, Markup]]
    verdicts: Sequence[SuiteVerdict]
    contamination: Sequence[tuple[str, Mapping[str, Any]]]
    examples: Sequence[ContaminatedItem]


def collect(run: ReportRun) -> SuiteResults | None:
    """Return the results of the run's models; ``None`` if none was scored on suites."""
    models = load_scored_models(run.storage, run.record)
    if not models:
        return None
    first = models[0]
    contamination = list(first.contamination.items())
    return SuiteResults(
        [model.name for model in models],
        first.suites,
        [_metric_row(name, models, first.contamination) for name in suite_metrics(models)],
        _domain_charts(models),
        compare_on_suites(models),
        contamination,
        _examples(run, first),
    )


def _metric_row(
    name: str, models: Sequence[ScoredModel], contamination: Mapping[str, Mapping[str, Any]]
) -> MetricRow:
    _, suite, metric = name.split(".")
    dirty = contamination.get(suite, {}).get("contaminated", 0)
    return MetricRow(
        suite,
        metric,
        [model.metrics.get(name) for model in models],
        [model.metrics.get(clean_name(name)) for model in models] if dirty else (),
    )


def _domain_charts(models: Sequence[ScoredModel]) -> list[tuple[str, Markup]]:
    """Draw a chart for each suite whose items have domains."""
    charts = []
    for suite in [item["name"] for item in models[0].suites]:
        for metric in DOMAIN_METRICS:
            domains = sorted(
                {
                    key[0].split(".")[1]
                    for model in models
                    for key in model.items
                    if key[0].startswith(f"{suite}.")
                    and key[1] == metric
                    and key[0].count(".") == 1
                }
                - {CLEAN}
            )
            rows = [
                (domain, [_interval(model, f"suite.{suite}.{domain}.{metric}") for model in models])
                for domain in domains
            ]
            if rows:
                title = f"{suite}: {metric.replace('_', ' ')} by domain"
                charts.append((title, interval_chart(rows, title=title)))
                break
    return charts


def _interval(model: ScoredModel, name: str) -> Interval | None:
    row = model.metrics.get(name)
    if row is None or row["value"] is None:
        return None
    value = row["value"]
    low, high = (value if row[key] is None else row[key] for key in ("low", "high"))
    return Interval(model.name, value, low, high)


def _examples(run: ReportRun, model: ScoredModel) -> list[ContaminatedItem]:
    """Return items that stand in documents that may be named, with the steps of training on these."""
    found = [
        (suite, row) for suite, item in model.contamination.items() for row in item["examples"]
    ]
    removed = run.find_removed({row["document"]: row["url"] for _, row in found})
    data = try_open_dataset(run.storage, model.path)
    traced = list(_traced_runs(run, data)) if data is not None else []
    return [
        ContaminatedItem(
            suite,
            row,
            {
                other.name: sorted(
                    other.sampler.steps_containing(
                        row["first_token"], row["first_token"] + row["tokens"], other.steps
                    )
                )[:MAX_STEPS]
                for other in traced
            },
        )
        for suite, row in found
        if row["document"] not in removed
    ]


def _traced_runs(run: ReportRun, data: Dataset) -> list[TracedRun]:
    """Return the models that were trained in steps on the token shards of a data set of results."""
    shards = [item["fingerprint"] for item in data.manifest.inputs]
    traced = []
    for entry in run.record.models:
        model = try_open_dataset(run.storage, entry.train) if entry.train else None
        if model is None or not any(
            item["fingerprint"] in shards for item in model.manifest.inputs
        ):
            continue
        if (found := trace_if_in_steps(model, entry.train or "")) is not None:
            traced.append(found)
    return traced


SECTION = Section("suites", "Suites", collect)
