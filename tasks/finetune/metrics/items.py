"""The metrics of a fine-tuned model as every scoring stage publishes them (``infra.schemas.metrics``)."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from infra.dataset.fingerprint import bytes_sha256
from infra.schemas.examples import Task
from infra.schemas.metrics import metric_name, metric_row
from infra.statistics.bootstrap import Estimate, ExampleStats

SUITE = "test"  # the test examples of an entry
# The metrics that are means over examples, so that two models are compared example by example.
ITEM_METRICS: Mapping[Task, tuple[str, ...]] = {
    "classification": ("accuracy",),
    "tagging": ("accuracy",),
    "qa": ("exact_match", "f1"),
    "seq2seq": ("exact_match",),
    "chat": ("bits_per_byte",),
    "completion": ("bits_per_byte",),
    "embedding": ("recall@1", "mrr"),
}


def item_rows(
    task: Task, test: pa.Table, ids: Sequence[str], stats: Mapping[str, ExampleStats]
) -> list[dict[str, Any]]:
    """Return rows of ``ITEMS``: the value of each example, or query, and what it counts for.

    Args:
        task: the task.
        test: the test examples.
        ids: what each value is of.
        stats: of ``metric_stats``.
    """
    clusters = list(ids)
    if task == "qa":  # questions on one passage are not independent
        clusters = [bytes_sha256(text.encode())[:32] for text in test["context"].to_pylist()]
    return [
        {
            "suite": SUITE,
            "item": item,
            "cluster": cluster,
            "metric": name,
            "value": float(total / weight),
            "weight": float(weight),
        }
        for name in ITEM_METRICS[task]
        for item, cluster, (total, weight) in zip(ids, clusters, stats[name].stats, strict=True)
        if weight
    ]


def metric_rows(metrics: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of ``METRICS``: all metrics of a model but those of single classes."""
    return [
        metric_row(metric_name(SUITE, name), Estimate(**values))
        for name, values in sorted(metrics.items())
        if "/" not in name
    ]
