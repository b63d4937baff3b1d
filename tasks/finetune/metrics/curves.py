"""ROC and precision-recall curves of each class against the others, by scikit-learn."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from infra.compute.arrays import F64, I64
from tasks.finetune.metrics.classification import Labels, label_matrix

MAX_POINTS = 200  # of a curve in a report


def class_curves(gold: Labels, scores: F64, labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the curves of each class that some but not all examples have.

    Args:
        gold: the right labels of n examples.
        scores: float64[n, labels], higher for more likely ones.
        labels: all classes; of two, only the second one's curves are returned, as the first's
            are the same seen from the other side.

    Returns:
        Class -> ``roc`` (false positive rate, true positive rate), ``roc_auc``, ``precision_recall``
        (recall, precision), ``average_precision``, ``positives``, ``n``.
    """
    from sklearn import metrics

    truth = label_matrix(gold, labels)
    curves: dict[str, dict[str, Any]] = {}
    is_single = bool((truth.sum(axis=1) == 1).all())
    for i, label in enumerate(labels):
        positives = int(truth[:, i].sum())
        if not 0 < positives < len(truth) or (len(labels) == 2 and i == 0 and is_single):
            continue
        column: I64 = truth[:, i]
        fpr, tpr, _ = metrics.roc_curve(column, scores[:, i])
        precision, recall, _ = metrics.precision_recall_curve(column, scores[:, i])
        curves[label] = {
            "roc": _thin(fpr, tpr),
            "roc_auc": float(metrics.roc_auc_score(column, scores[:, i])),
            "precision_recall": _thin(recall[::-1], precision[::-1]),
            "average_precision": float(metrics.average_precision_score(column, scores[:, i])),
            "positives": positives,
            "n": len(truth),
        }
    return curves


def _thin(x: F64, y: F64) -> list[list[float]]:
    """Return at most ``MAX_POINTS`` of a curve's points, its ends among them."""
    chosen = np.unique(np.linspace(0, len(x) - 1, MAX_POINTS).round().astype(np.int64))
    return [[round(float(x[i]), 6), round(float(y[i]), 6)] for i in chosen]
