"""Fine-tuned models beside their baselines, an entry of `finetune` each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any

from markupsafe import Markup

from infra.dataset.dataset import try_open_dataset
from infra.schemas.examples import MODEL, SPLITS
from views.models.baselines import Verdict, compare_systems
from views.report.finetuned_models import ScoredFinetuned, find_best, group_by_entry
from views.report.heatmap import heatmap
from views.report.quotes import not_removed
from views.report.report_run import ReportRun, Section
from views.report.sections.finetune.curves import (
    MAX_BASELINES,
    Chart,
    CurvePoint,
    Curves,
    describe_crossing,
    draw_classifier,
    draw_learning_curves,
)

BASELINE, FINE_TUNED, FROM_SCRATCH = "baseline", "fine-tuned", "from random weights"
MAX_METRICS = 6
MAX_LABELS = 20  # of a confusion matrix that is shown
# What is shown first, of the metrics that a task has; those of single classes are in the data set.
SHOWN = (
    *("accuracy", "f1_macro", "f1_micro", "matthews", "calibration_error"),
    *("f1", "precision", "recall", "exact_match"),
    *("bleu", "chrf", "rouge1", "rouge2", "rougeL"),
    *("mrr", "recall@1", "recall@5", "recall@10", "ndcg@10"),
    *("perplexity", "bits_per_byte"),
)
HELD_OUT = ("duplicate_of_test", "near_duplicate_of_test", "duplicate_of_validation", "near_duplicate_of_validation")  # fmt: skip


@dataclass(frozen=True)
class SystemRow:
    """A system of the table.

    Attributes:
        name: of the model, or of the baseline.
        kind: what it is.
        train: number of its training examples, if that is a number of its own.
        metrics: by name: value, low, high, n.
        difference: the main metric of the fine-tuned model minus this one's, with its interval.
        mcnemar: how many examples one of the two alone has right, and the exact p-value.
    """

    name: str
    kind: str
    train: int | None
    metrics: Mapping[str, Mapping[str, Any]]
    difference: Mapping[str, Any] | None = None
    mcnemar: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Spread:
    """A metric over the models of an entry that differ in their seed: mean and standard deviation."""

    metric: str
    mean: float
    deviation: float
    models: int


@dataclass(frozen=True)
class TaskReport:
    """An entry of `finetune`.

    Attributes:
        name: of the entry.
        task: its task.
        base: the model that it starts from.
        main_metric: by which systems are sorted.
        n: number of test examples.
        metrics: names of the columns.
        systems: rows of the table, the best first.
        splits: number of examples by split.
        leaks: examples that were dropped because they repeat held-out ones, by reason.
        rejected: other rows of the files that are no examples, by reason.
        overlap: by split: examples, checked, found in the corpus.
        confusion: rows of the confusion matrix, by right label.
        labels: of its columns.
        curve: main metric over the number of training examples.
        curve_systems: names of its lines.
        crossings: by baseline, from how many examples on the model is better.
        charts: ROC, precision and recall, reliability.
        spreads: over the seeds.
        rates: learning rates that were tried, with their validation losses, the chosen one first.
        training: counts of the training examples that are worth a word: copies, truncated, over_long.
        errors: samples.
        explanations: what the classifier looks at in some test examples.
        folds: of the cross-validation; 0: none.
        validated: metrics of its out-of-fold predictions.
        verdict: the model beside the baselines.
        pretraining: the model beside the same from random weights.
    """

    name: str
    task: str
    base: str
    main_metric: str
    n: int
    metrics: Sequence[str]
    systems: Sequence[SystemRow]
    splits: Mapping[str, int] = field(default_factory=dict)
    leaks: Mapping[str, int] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)
    overlap: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    confusion: Sequence[tuple[str, Sequence[int]]] = ()
    labels: Sequence[str] = ()
    curve: Markup = Markup("")  # noqa: RUF009 - immutable
    curve_systems: Sequence[str] = ()
    crossings: Mapping[str, str] = field(default_factory=dict)
    charts: Sequence[Chart] = ()
    spreads: Sequence[Spread] = ()
    rates: Sequence[tuple[float, float | None]] = ()
    training: Mapping[str, int] = field(default_factory=dict)
    errors: Sequence[Mapping[str, Any]] = ()
    explanations: Sequence[Mapping[str, Any]] = ()
    folds: int = 0
    validated: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    verdict: Verdict = Verdict({}, {})  # noqa: RUF009 - immutable
    pretraining: Verdict = Verdict({}, {})  # noqa: RUF009 - immutable


def collect(run: ReportRun) -> list[TaskReport] | None:
    """Return the run's entries of `finetune` that were scored; ``None`` without one."""
    return [_report(run, name, scored) for name, scored in group_by_entry(run).items()] or None


def _report(run: ReportRun, name: str, scored: Sequence[ScoredFinetuned]) -> TaskReport:
    best = find_best(scored)
    stats, own = best.scores.stats, best.model.stats
    main = str(stats["main_metric"])
    is_loss = main == "perplexity"
    systems = [_model_row(item, stats, main) for item in scored]
    entries = {record.name: record.entry for record in run.record.finetuned}
    rivals = {item.record.name for item in scored}
    systems += [
        SystemRow(
            key,
            f"fine-tuned, {entries[key]}" if key in entries else BASELINE,
            None,
            metrics,
            *_tests(stats, key, main),
        )
        for key, metrics in stats["systems"].items()
        if key != MODEL and key not in rivals
    ]
    systems.sort(key=lambda row: _value(row.metrics, main, is_loss=is_loss), reverse=not is_loss)
    examples = try_open_dataset(run.storage, best.record.prepare) if best.record.prepare else None
    counts = {} if examples is None else {**examples.counts.dropped, **examples.counts.failed}
    confusion, labels = stats["details"].get("confusion"), stats["details"].get("labels", ())
    folds = stats.get("cross_validation")
    shown = confusion is not None and len(labels) <= MAX_LABELS
    baselines = [row.name for row in systems if row.kind == BASELINE]
    curves = _learning_curves(scored, main, baselines[:MAX_BASELINES])
    drawn = draw_learning_curves(curves, main)
    verdict = compare_systems(stats)
    return TaskReport(
        name,
        str(stats["task"]),
        str(own["base"]),
        main,
        int(stats["n"]),
        _shown_metrics(best.metrics),
        systems,
        {} if examples is None else {name: examples.stats["splits"][name] for name in SPLITS},
        {key: counts[key] for key in HELD_OUT if key in counts},
        {key: value for key, value in counts.items() if key not in HELD_OUT},
        {} if examples is None else examples.stats.get("overlap", {}),
        list(zip(labels, confusion, strict=True)) if shown else (),
        labels if shown else (),
        drawn,
        list(curves) if drawn else (),
        {
            key: text
            for key, points in curves.items()
            if key != FINE_TUNED
            and (text := describe_crossing(curves[FINE_TUNED], points, is_loss=is_loss))
        },
        draw_classifier(stats["details"]),
        _spreads(scored, best),
        [(rate, loss) for rate, loss in own["lr_grid"]] if len(own["lr_grid"]) > 1 else (),
        {
            key: count
            for key, count in (
                ("copies", own["examples"]["copies"]),
                ("truncated", own["truncated"]),
                ("over_long", own["over_long"]),
            )
            if count
        },
        not_removed(run, stats["errors"]),
        [
            {**item, "picture": heatmap(item["attention"]) if item.get("attention") else None}
            for item in not_removed(run, stats.get("explanations", ()))
        ],
        len(folds["folds"]) if folds else 0,
        folds["metrics"] if folds else {},
        verdict.among([row.name for row in systems if row.kind == BASELINE]),
        verdict.among([row.name for row in systems if row.kind == FROM_SCRATCH]),
    )


def _shown_metrics(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the metrics of the table; F1 over all decisions is the accuracy where an example has one label."""
    shown = [name for name in SHOWN if name in metrics]
    values = [metrics.get(name, {}).get("value") for name in ("accuracy", "f1_micro")]
    if values[0] == values[1]:
        shown = [name for name in shown if name != "f1_micro"]
    return shown[:MAX_METRICS]


def _model_row(item: ScoredFinetuned, stats: Mapping[str, Any], main: str) -> SystemRow:
    own = item.model.stats
    kind = FROM_SCRATCH if own["from_scratch"] else FINE_TUNED
    tests = _tests(stats, item.record.name, main)
    return SystemRow(item.record.name, kind, own["examples"]["train"], item.metrics, *tests)


def _tests(
    stats: Mapping[str, Any], system: str, main: str
) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """Return the tests of the model against a system: of the main metric, and McNemar's."""
    own = stats["differences"].get(system, {})
    return own.get(main), own.get("mcnemar")


def _value(metrics: Mapping[str, Mapping[str, Any]], main: str, *, is_loss: bool) -> float:
    value = metrics.get(main, {}).get("value")
    return float(value) if value is not None else float("inf") if is_loss else float("-inf")


def _learning_curves(
    scored: Sequence[ScoredFinetuned], main: str, baselines: Sequence[str]
) -> Curves:
    """Return the main metric of the models of each budget and of baselines with the same examples."""
    curves: dict[str, dict[int, CurvePoint]] = {FINE_TUNED: {}, **{name: {} for name in baselines}}
    for item in scored:
        if not item.is_from_base:
            continue
        count, systems = item.model.stats["examples"]["train"], item.scores.stats["systems"]
        for name, points in curves.items():
            metric = systems.get(MODEL if name == FINE_TUNED else name, {}).get(main, {})
            if metric.get("value") is not None:
                ends = [
                    metric[end] if metric[end] is not None else metric["value"]
                    for end in ("low", "high")
                ]
                points.setdefault(count, CurvePoint(count, metric["value"], *ends))
    return {
        name: [points[count] for count in sorted(points)]
        for name, points in curves.items()
        if points
    }


def _spreads(scored: Sequence[ScoredFinetuned], best: ScoredFinetuned) -> list[Spread]:
    """Return mean and standard deviation over the models with all examples that differ in their seed."""
    seeds = [item for item in scored if item.is_from_base and item.has_all_examples]
    if len(seeds) < 2:
        return []
    spreads = []
    for metric in _shown_metrics(best.metrics):
        values = [item.metrics[metric]["value"] for item in seeds if metric in item.metrics]
        known = [value for value in values if value is not None]
        if len(known) > 1:
            spreads.append(Spread(metric, mean(known), stdev(known), len(known)))
    return spreads


SECTION = Section("finetune", "Fine-tuned models", collect)
