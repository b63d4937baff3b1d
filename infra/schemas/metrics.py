"""What every stage that scores models publishes: its metrics, and its values by item.

Metrics are rows of ``METRICS`` under ``METRIC_ROWS`` in a data set's statistics. Values by item are rows of ``ITEMS`` in
a file beside each part; with them any two models are compared over the same items, whichever stage scored them.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from infra.compute.arrays import F64
from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.tables import read_table, table_bytes
from infra.statistics.bootstrap import Estimate, estimate, mean_of, ratio_of, sum_by_cluster
from infra.statistics.comparison import PairedDifference, compare_paired

METRIC_ROWS = "metric_rows"  # in a data set's statistics
METRICS = pa.schema(
    [
        ("name", pa.string()),  # such as bits_per_byte, suite.cloze.accuracy
        ("value", pa.float64()),  # null: undefined, as a mean over no items
        ("low", pa.float64()),  # 95 % interval
        ("high", pa.float64()),
        ("n", pa.int64()),  # items
        ("higher_is_better", pa.bool_()),
    ]
)

ITEMS_FILE = "items.parquet"  # suffix of a part's file
ITEMS = pa.schema(
    [
        ("suite", pa.string()),
        ("item", pa.string()),
        ("cluster", pa.string()),  # items of one cluster share a document, and are not independent
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("weight", pa.float64()),  # of the mean over items; of bits per byte, the bytes
    ]
)
# File of a data set: suite -> items that stand in its model's training text, if that was looked for.
CONTAMINATED_FILE = "contaminated.json"
CLEAN = "clean"  # suite NAME.clean: its other items
HELD_OUT = "held_out"  # the suite of the held-out documents of the recipe's own corpus

# All other metrics grow with quality.
LOWER_IS_BETTER = frozenset(
    {
        "bits_per_byte",
        "pseudo_nats_per_token",
        "perplexity",
        "min_k_auroc",
        "calibration_error",
        "gap",  # between counterfactual texts, above 0 as a prejudice has it
        "absolute_gap",
        "flagged",
        "flagged_ever",
        "exposure",
    }
)
MEMORIZED = "memorized_"  # memorized_50: passages that are repeated after so many tokens
NEAR_EXACT = "near_exact_"  # the same, if almost all tokens are
DIGITS = 6
SEED = 0  # of the resamples: a metric depends on its items alone

ItemKey = tuple[str, str]  # suite and metric


def metric_name(suite: str, metric: str) -> str:
    """Return the name of a metric: that of a suite begins with it, that of held-out documents does not."""
    return metric if suite == HELD_OUT else f"suite.{suite}.{metric}"


def higher_is_better(metric: str) -> bool:
    """Return whether a metric, by the last word of its name, grows with quality."""
    last = metric.rsplit(".", 1)[-1]
    return last not in LOWER_IS_BETTER and not last.startswith((MEMORIZED, NEAR_EXACT))


def make_items(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return the bytes of a part's ``ITEMS_FILE``."""
    return table_bytes(pa.Table.from_pylist(list(rows), ITEMS))


def read_items(dataset: Dataset) -> pa.Table:
    """Return the values by item of a data set, rows of ``ITEMS``; none if its stage has none.

    Those of suites whose items were looked for in the training text come twice: of ``NAME``, all items, and
    of ``NAME.clean``.
    """
    items = read_part_items(dataset.parts)
    if CONTAMINATED_FILE not in dataset.manifest.files:
        return items
    return mark_clean(items, json.loads(dataset.read(CONTAMINATED_FILE)))


def mark_clean(items: pa.Table, contaminated: Mapping[str, Sequence[str]]) -> pa.Table:
    """Add rows of ``NAME.clean`` to the values by item: those of the items that are not contaminated.

    Args:
        items: rows of ``ITEMS``; of a suite ``NAME.DOMAIN``, ``NAME.DOMAIN.clean`` is added.
        contaminated: suite -> its contaminated items.
    """
    dirty = {(suite, item) for suite, names in contaminated.items() for item in names}
    suites, names = items["suite"].to_pylist(), items["item"].to_pylist()
    is_clean = [
        (suite.partition(".")[0], name) not in dirty
        for suite, name in zip(suites, names, strict=True)
    ]
    clean = items.filter(pa.array(is_clean, pa.bool_()))
    renamed = pa.array([f"{suite}.{CLEAN}" for suite in clean["suite"].to_pylist()], pa.string())
    return pa.concat_tables([items, clean.set_column(0, ITEMS.field("suite"), renamed)])


def read_part_items(parts: Sequence[PartRef]) -> pa.Table:
    """Return the values by item of some parts."""
    files = [part for part in parts if ITEMS_FILE in part.record.files]
    tables = [read_table(part.storage, part.file(ITEMS_FILE)) for part in files]
    return pa.concat_tables([ITEMS.empty_table(), *tables])


def read_metrics(dataset: Dataset) -> pa.Table:
    """Return the metrics of a data set, rows of ``METRICS``; none if its stage has none."""
    return pa.Table.from_pylist(dataset.stats.get(METRIC_ROWS, []), METRICS)


def metric_row(name: str, measured: Estimate) -> dict[str, Any]:
    """Return a row of ``METRICS``."""
    numbers = {"value": measured.value, "low": measured.low, "high": measured.high}
    # Adding 0.0 makes -0.0, as of differences that cancel out, 0.0.
    rounded = {key: None if x is None else round(x, DIGITS) + 0.0 for key, x in numbers.items()}
    return {"name": name, **rounded, "n": measured.n, "higher_is_better": higher_is_better(name)}


def estimate_items(
    items: pa.Table, name: Callable[[str, str], str] = metric_name
) -> list[dict[str, Any]]:
    """Return the metrics of items, rows of ``METRICS``: weighted means with intervals by cluster.

    Args:
        items: rows of ``ITEMS``.
        name: names the metric of a suite: takes the suite and the metric.
    """
    return [
        metric_row(name(suite, metric), _estimate_group(group))
        for (suite, metric), group in sorted(group_items(items).items())
    ]


def compare_items(a: pa.Table, b: pa.Table) -> dict[ItemKey, PairedDifference]:
    """Compare two models by suite and metric, over the items that both have a value for: a minus b.

    Args:
        a: the first model's rows of ``ITEMS``.
        b: the second model's.
    """
    first, second = group_items(a), group_items(b)
    result = {}
    for key in sorted(first.keys() & second.keys()):
        shared = share_items([first[key], second[key]])
        if shared is not None:
            values, weights, clusters = shared
            result[key] = compare_paired(values[0], values[1], weights, clusters, SEED)
    return result


class Item(NamedTuple):
    """The value of an item, without its suite and metric."""

    item: str
    cluster: str
    value: float
    weight: float


def group_items(items: pa.Table) -> dict[ItemKey, list[Item]]:
    """Return the rows of ``ITEMS`` by suite and metric, in their order."""
    groups: dict[ItemKey, list[Item]] = {}
    columns = [items[name].to_pylist() for name in ITEMS.names]
    for suite, item, cluster, metric, value, weight in zip(*columns, strict=True):
        groups.setdefault((suite, metric), []).append(Item(item, cluster, value, weight))
    return groups


class SharedItems(NamedTuple):
    """The values of m models for the n items that all of them have, in the order of the first model.

    Attributes:
        values: float64[m, n].
        weights: float64[n], those of the first model.
        clusters: of the items.
    """

    values: F64
    weights: F64
    clusters: list[str]


def share_items(models: Sequence[Sequence[Item]]) -> SharedItems | None:
    """Line up the items of models by one metric; ``None`` if those that all have weigh nothing."""
    by_name = [{item.item: item for item in items} for items in models]
    names = [name for name in by_name[0] if all(name in items for items in by_name)]
    weights = np.array([by_name[0][name].weight for name in names])
    if not weights.sum() > 0:
        return None
    values = np.array([[items[name].value for name in names] for items in by_name])
    return SharedItems(values, weights, [by_name[0][name].cluster for name in names])


def _estimate_group(group: Sequence[Item]) -> Estimate:
    values = np.array([item.value for item in group])
    weights = np.array([item.weight for item in group])
    metric = mean_of(values) if (weights == 1).all() else ratio_of(values * weights, weights)
    clustered = sum_by_cluster(metric, [item.cluster for item in group])
    return replace(estimate({"": clustered}, SEED)[""], n=len(group))
