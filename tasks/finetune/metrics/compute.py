"""The metrics of a task's predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from infra.compute.arrays import F64
from infra.schemas.examples import Task
from infra.statistics.bootstrap import ExampleStats, compare, estimate, mcnemar
from lm.scoring.answers import qa_stats
from lm.scoring.generated_text import signatures, summarization_stats, translation_stats
from tasks.finetune.metrics.classification import (
    calibration_curve,
    classification_stats,
    confusion_matrix,
)
from tasks.finetune.metrics.curves import class_curves
from tasks.finetune.metrics.likelihood import likelihood_stats
from tasks.finetune.metrics.retrieval import make_retrieval_test, retrieval_stats
from tasks.finetune.metrics.tagging import tagging_stats


@dataclass(frozen=True)
class Predictions:
    """What a system says of the n examples of a split.

    Attributes:
        items: per example. ``classification``: its labels; ``tagging``: its tags; ``qa``: the answer's text,
            empty for none; ``seq2seq``: the text; ``chat`` and ``completion``: (-ln p, tokens, bytes) of the
            targets. ``embedding``: per query of ``make_retrieval_test``, indices of passages, best first.
        scores: of ``classification``, probabilities float64[n, labels].
    """

    items: Sequence[Any]
    scores: F64 | None = None


# The metric by which entries are compared and runs are chosen, if a reader wants one number. Higher is
# better, except for perplexity.
MAIN_METRIC: dict[Task, str] = {
    "classification": "f1_macro",
    "tagging": "f1",
    "qa": "f1",
    "seq2seq": "chrf",
    "chat": "perplexity",
    "completion": "perplexity",
    "embedding": "mrr",
}


def main_metric(task: Task, metrics: Mapping[str, Any]) -> str:
    """Return the name of the main metric among those that were computed.

    Tags that are no spans, such as parts of speech, have the mean over the tags instead.
    """
    name = MAIN_METRIC[task]
    return name if name in metrics else f"{name}_macro"


def metric_stats(
    task: Task,
    test: pa.Table,
    predictions: Predictions,
    labels: Sequence[str],
    tokenizer: str = "13a",
) -> dict[str, ExampleStats]:
    """Return a task's metrics as sums over examples.

    Args:
        task: the task.
        test: n examples, with the task's columns.
        predictions: for the same examples in the same order.
        labels: the classes, of ``classification``.
        tokenizer: of BLEU, of ``seq2seq``.

    Raises:
        ValueError: if there are not as many predictions as examples.
    """
    items = predictions.items
    if task == "classification":
        return classification_stats(test["labels"].to_pylist(), items, labels, predictions.scores)
    if task == "tagging":
        roles = test.num_rows > test["predicate"].null_count
        return tagging_stats(test["tags"].to_pylist(), items, roles=roles)
    if task == "qa":
        gold = [[answer["text"] for answer in row] for row in test["answers"].to_pylist()]
        return qa_stats(gold, items)
    if task == "seq2seq":
        gold = test["target"].to_pylist()
        _check_count(gold, items)
        return translation_stats(gold, items, tokenizer) | summarization_stats(gold, items)
    if task == "embedding":
        return retrieval_stats(make_retrieval_test(test).relevant, items)
    _check_count(test, items)
    nats, tokens, num_bytes = zip(*items, strict=True) if items else ((), (), ())
    return likelihood_stats(nats, tokens, num_bytes)


def compute_metrics(
    task: Task,
    test: pa.Table,
    predictions: Predictions,
    labels: Sequence[str],
    seed: int,
    tokenizer: str = "13a",
) -> dict[str, dict[str, Any]]:
    """Return metric -> ``value``, ``low``, ``high`` (95 % bootstrap interval) and ``n``.

    Arguments and errors are those of ``metric_stats``; ``seed`` draws the resamples.
    """
    stats = metric_stats(task, test, predictions, labels, tokenizer)
    return {name: metric.to_json() for name, metric in estimate(stats, seed).items()}


def paired_test(
    task: Task,
    test: pa.Table,
    a: Predictions,
    b: Predictions,
    labels: Sequence[str],
    seed: int,
    tokenizer: str = "13a",
) -> dict[str, dict[str, Any]]:
    """Compare two systems on the same examples: metric -> difference (a minus b), interval, p-value.

    Where an example is right or wrong as a whole, ``mcnemar`` has the exact test of that. Metrics of
    single classes are not compared: of many tests, some are significant by chance.
    """
    first, second = (metric_stats(task, test, item, labels, tokenizer) for item in (a, b))
    overall = {name: metric for name, metric in first.items() if "/" not in name}
    result = {name: item.to_json() for name, item in compare(overall, second, seed).items()}
    hit = {"classification": "accuracy", "qa": "exact_match", "seq2seq": "exact_match"}.get(task)
    if hit is not None:
        # Both are means: the first column holds 1 for each example that is right.
        result["mcnemar"] = dict(mcnemar(first[hit].stats[:, 0], second[hit].stats[:, 0]))
    return result


def describe_predictions(
    task: Task,
    test: pa.Table,
    predictions: Predictions,
    labels: Sequence[str],
    tokenizer: str = "13a",
) -> dict[str, Any]:
    """Return what a report shows beside the metrics, as JSON values.

    Of ``classification``: ``labels``, ``confusion`` (single label; rows are right, columns predicted), and with
    scores ``calibration`` and ``curves``. Of ``seq2seq``: sacrebleu's ``signatures``.
    """
    if task == "seq2seq":
        return {"signatures": signatures(tokenizer)}
    if task != "classification":
        return {}
    gold, guess = test["labels"].to_pylist(), predictions.items
    out: dict[str, Any] = {"labels": list(labels)}
    is_single = all(len(names) == 1 for names in (*gold, *guess))
    if is_single:
        out["confusion"] = confusion_matrix(gold, guess, labels)
    if predictions.scores is not None and test.num_rows:
        scores = np.asarray(predictions.scores, np.float64)
        out["curves"] = class_curves(gold, scores, labels)
        if is_single:
            out["calibration"] = calibration_curve(gold, scores, labels)
    return out


def _check_count(gold: Any, items: Sequence[Any]) -> None:
    if len(gold) != len(items):
        raise ValueError(f"{len(items)} predictions for {len(gold)} examples")
