"""Metrics of classification, with one or several labels per example."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from infra.compute.arrays import F64, I64
from infra.statistics.bootstrap import ExampleStats, divide, mean_of

CALIBRATION_BINS = 15  # Guo et al. 2017, "On Calibration of Modern Neural Networks"
Labels = Sequence[Sequence[str]]
Rate = Callable[[F64], F64]


def label_matrix(rows: Labels, labels: Sequence[str]) -> I64:
    """Return int64[n, labels]: 1 where an example has a label."""
    index = {label: i for i, label in enumerate(labels)}
    matrix = np.zeros((len(rows), len(labels)), np.int64)
    for row, names in enumerate(rows):
        for name in names:
            matrix[row, index[name]] = 1
    return matrix


def classification_stats(
    gold: Labels, predicted: Labels, labels: Sequence[str], probabilities: F64 | None = None
) -> dict[str, ExampleStats]:
    """Return the metrics of single-label or multi-label classification.

    ``accuracy`` (with several labels per example: all of them right), ``precision``, ``recall`` and ``f1``
    each as ``_micro``, ``_macro`` (the mean over classes that occur in gold or predicted labels) and of each
    class (``f1/spam``), ``matthews`` (single label), and ``calibration_error`` if there are probabilities.
    As in scikit-learn, a class without predictions has precision 0; without examples, recall 0.

    Args:
        gold: the right labels of n examples.
        predicted: those of the system.
        labels: all classes.
        probabilities: float64[n, labels] of the system.
    """
    truth, guess = label_matrix(gold, labels), label_matrix(predicted, labels)
    hits = (truth == guess).all(axis=1).astype(np.float64)
    counts = np.stack([truth & guess, ~truth & 1 & guess, truth & ~guess & 1], axis=2)
    metrics = {"accuracy": mean_of(hits)}
    k = len(labels)
    flat = counts.reshape(len(truth), 3 * k).astype(np.float64)
    for kind, rate in RATES.items():
        metrics[f"{kind}_micro"] = ExampleStats(flat, partial(pool_classes, k, rate))
        metrics[f"{kind}_macro"] = ExampleStats(flat, partial(average_classes, k, rate))
        for i, label in enumerate(labels):
            metrics[f"{kind}/{label}"] = ExampleStats(counts[:, i].astype(np.float64), rate)
    is_single = bool((truth.sum(axis=1) == 1).all() and (guess.sum(axis=1) == 1).all())
    if is_single:
        metrics["matthews"] = _matthews(truth, guess)
    if probabilities is not None and is_single:
        metrics["calibration_error"] = _calibration_error(truth, probabilities)
    return metrics


def class_sums(sums: F64, k: int) -> F64:
    """Return sums as [..., classes, (true positive, false positive, false negative)]."""
    return sums.reshape(*sums.shape[:-1], k, 3)


def _precision(sums: F64) -> F64:
    return _or_zero(sums[..., 0], sums[..., 0] + sums[..., 1])


def _recall(sums: F64) -> F64:
    return _or_zero(sums[..., 0], sums[..., 0] + sums[..., 2])


def _f1(sums: F64) -> F64:
    return _or_zero(2 * sums[..., 0], 2 * sums[..., 0] + sums[..., 1] + sums[..., 2])


def _or_zero(a: F64, b: F64) -> F64:
    return np.nan_to_num(divide(a, b))


# Of true positives, false positives and false negatives, float64[..., 3].
RATES: Mapping[str, Rate] = {"precision": _precision, "recall": _recall, "f1": _f1}


def pool_classes(k: int, rate: Rate, sums: F64) -> F64:
    """Compute a rate of the sums over all k classes (micro average)."""
    return rate(class_sums(sums, k).sum(axis=-2))


def average_classes(k: int, rate: Rate, sums: F64) -> F64:
    """Average a rate over those of k classes that occur in the sums (macro average)."""
    classes = class_sums(sums, k)
    occurs = (classes.sum(axis=-1) > 0).astype(np.float64)
    return divide((rate(classes) * occurs).sum(axis=-1), occurs.sum(axis=-1))


def _matthews(truth: I64, guess: I64) -> ExampleStats:
    """Make Matthews' correlation for k classes (Gorodkin 2004), a function of the marginals.

    With c right of s examples, t_k examples and p_k predictions of class k:
    (c s - sum t_k p_k) / sqrt((s^2 - sum p_k^2) (s^2 - sum t_k^2)).
    """
    k = truth.shape[1]
    hits = (truth & guess).sum(axis=1, keepdims=True)
    stats = np.concatenate([hits, truth, guess], axis=1).astype(np.float64)

    def compute(sums: F64) -> F64:
        right, t, p = sums[..., 0], sums[..., 1 : 1 + k], sums[..., 1 + k :]
        s = t.sum(axis=-1)
        spread = (s**2 - (p**2).sum(axis=-1)) * (s**2 - (t**2).sum(axis=-1))
        return _or_zero(right * s - (t * p).sum(axis=-1), np.sqrt(np.maximum(spread, 0)))

    return ExampleStats(stats, compute)


def _calibration_error(truth: I64, probabilities: F64) -> ExampleStats:
    """Make the expected calibration error of the most likely class, in bins of equal width.

    Sum over bins of |right - confidence|, summed over the bin's examples, by the number of all.
    """
    n = len(truth)
    best = probabilities.argmax(axis=1)
    confidence = probabilities[np.arange(n), best]
    right = truth[np.arange(n), best]
    # A bin holds its upper end, as in the paper.
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, None)
    stats = np.zeros((n, CALIBRATION_BINS + 1))
    stats[np.arange(n), np.minimum(bins, CALIBRATION_BINS - 1)] = right - confidence
    stats[:, -1] = 1

    def compute(sums: F64) -> F64:
        return divide(np.abs(sums[..., :-1]).sum(axis=-1), sums[..., -1])

    return ExampleStats(stats, compute)


def confusion_matrix(gold: Labels, predicted: Labels, labels: Sequence[str]) -> list[list[int]]:
    """Count the examples of each class (rows) by the class predicted (columns); single label."""
    index = {label: i for i, label in enumerate(labels)}
    matrix = [[0] * len(labels) for _ in labels]
    for right, guess in zip(gold, predicted, strict=True):
        matrix[index[right[0]]][index[guess[0]]] += 1
    return matrix


def calibration_curve(
    gold: Labels, probabilities: F64, labels: Sequence[str]
) -> list[dict[str, float]]:
    """Return ``confidence``, ``accuracy`` and ``n`` of each bin that holds an example."""
    truth = label_matrix(gold, labels)
    rows = np.arange(len(truth))
    best = probabilities.argmax(axis=1)
    confidence, right = probabilities[rows, best], truth[rows, best]
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS) - 1, 0, CALIBRATION_BINS - 1)
    return [
        {
            "confidence": float(confidence[bins == b].mean()),
            "accuracy": float(right[bins == b].mean()),
            "n": int((bins == b).sum()),
        }
        for b in range(CALIBRATION_BINS)
        if (bins == b).any()
    ]
