"""Fine-tuned models beside their baselines, an entry of `finetune` each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from infra.dataset.dataset import Dataset, try_open_dataset
from infra.runs.run_records import FinetunedRecord
from infra.schemas.examples import SPLITS
from views.report.charts import Line, line_chart
from views.report.report_run import ReportRun, Section

MODEL = "model"  # the name of the fine-tuned model among the systems of its scores
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
    """

    name: str
    kind: str
    train: int | None
    metrics: Mapping[str, Mapping[str, Any]]
    difference: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class TaskReport:
    """An entry of `finetune`.

    Attributes:
        name: of the entry.
        task: its task.
        base: the model that it starts from.
        main_metric: by which systems are sorted.
        metrics: names of the columns.
        systems: rows of the table, the best first.
        splits: number of examples by split.
        leaks: examples that were dropped because they repeat held-out ones, by reason.
        rejected: other rows of the files that are no examples, by reason.
        overlap: by split: examples, checked, found in the corpus.
        confusion: rows of the confusion matrix, by right label.
        labels: of its columns.
        curve: main metric over the number of training examples.
        errors: samples.
        explanations: what the classifier looks at in some test examples.
        folds: of the cross-validation; 0: none.
        validated: metrics of its out-of-fold predictions.
    """

    name: str
    task: str
    base: str
    main_metric: str
    metrics: Sequence[str]
    systems: Sequence[SystemRow]
    splits: Mapping[str, int] = field(default_factory=dict)
    leaks: Mapping[str, int] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)
    overlap: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    confusion: Sequence[tuple[str, Sequence[int]]] = ()
    labels: Sequence[str] = ()
    curve: Markup = Markup("")  # noqa: RUF009 - immutable
    errors: Sequence[Mapping[str, Any]] = ()
    explanations: Sequence[Mapping[str, Any]] = ()
    folds: int = 0
    validated: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Scored:
    record: FinetunedRecord
    model: Dataset
    scores: Dataset


def collect(run: ReportRun) -> list[TaskReport] | None:
    """Return the run's entries of `finetune` that were scored; ``None`` without one."""
    by_entry: dict[str, list[_Scored]] = {}
    for record in run.record.finetuned:
        model = try_open_dataset(run.storage, record.finetune)
        scores = try_open_dataset(run.storage, record.score) if record.score else None
        if model is not None and scores is not None:
            by_entry.setdefault(record.entry, []).append(_Scored(record, model, scores))
    reports = [_report(run, name, scored) for name, scored in by_entry.items()]
    return reports or None


def _report(run: ReportRun, name: str, scored: Sequence[_Scored]) -> TaskReport:
    # The one with all examples, from the base; else the first.
    best = max(scored, key=lambda item: _rank(item.model.stats))
    stats = best.scores.stats
    main = str(stats["main_metric"])
    systems = [_model_row(item, stats, main) for item in scored]
    rivals = {item.record.name for item in scored}
    systems += [
        SystemRow(key, "baseline", None, metrics, stats["differences"].get(key, {}).get(main))
        for key, metrics in stats["systems"].items()
        if key != MODEL and key not in rivals
    ]
    is_loss = main == "perplexity"
    systems.sort(key=lambda row: _value(row.metrics, main, is_loss=is_loss), reverse=not is_loss)
    available = stats["systems"][MODEL]
    examples = try_open_dataset(run.storage, best.record.prepare) if best.record.prepare else None
    counts = {} if examples is None else {**examples.counts.dropped, **examples.counts.failed}
    confusion, labels = stats["details"].get("confusion"), stats["details"].get("labels", ())
    folds = best.model.stats.get("cross_validation")
    shown = confusion is not None and len(labels) <= MAX_LABELS
    return TaskReport(
        name,
        str(stats["task"]),
        str(best.model.stats["base"]),
        main,
        [metric for metric in SHOWN if metric in available][:MAX_METRICS],
        systems,
        {} if examples is None else {name: examples.stats["splits"][name] for name in SPLITS},
        {key: counts[key] for key in HELD_OUT if key in counts},
        {key: value for key, value in counts.items() if key not in HELD_OUT},
        {} if examples is None else examples.stats.get("overlap", {}),
        list(zip(labels, confusion, strict=True)) if shown else (),
        labels if shown else (),
        _draw_curve(scored, main),
        stats["errors"],
        stats.get("explanations", ()),
        len(folds["folds"]) if folds else 0,
        folds["metrics"] if folds else {},
    )


def _rank(stats: Mapping[str, Any]) -> tuple[bool, float]:
    return (not stats["from_scratch"], stats["budget"])


def _model_row(item: _Scored, stats: Mapping[str, Any], main: str) -> SystemRow:
    own = item.model.stats
    kind = "from random weights" if own["from_scratch"] else "fine-tuned"
    difference = stats["differences"].get(item.record.name, {}).get(main)
    metrics = item.scores.stats["systems"][MODEL]
    return SystemRow(item.record.name, kind, own["examples"]["train"], metrics, difference)


def _value(metrics: Mapping[str, Mapping[str, Any]], main: str, *, is_loss: bool) -> float:
    value = metrics.get(main, {}).get("value")
    return float(value) if value is not None else float("inf") if is_loss else float("-inf")


def _draw_curve(scored: Sequence[_Scored], main: str) -> Markup:
    """Draw the learning curve over the budgets; nothing for fewer than two."""
    points = sorted(
        (item.model.stats["examples"]["train"], item.scores.stats["systems"][MODEL][main]["value"])
        for item in scored
        if not item.model.stats["from_scratch"]
        and item.scores.stats["systems"][MODEL][main]["value"] is not None
    )
    if len({x for x, _ in points}) < 2:
        return Markup("")
    title = f"{main} over the number of training examples"
    return line_chart([Line("fine-tuned", points, 0, dots=True)], title=title)


SECTION = Section("finetune", "Fine-tuned models", collect)
