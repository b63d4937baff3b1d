"""Comparisons of systems: what holds on average over many draws, and known values."""

import math

import numpy as np
import pyarrow as pa
import pytest

from infra.compute.arrays import F64
from infra.schemas.metrics import ITEMS, compare_items, estimate_items, mark_clean
from infra.statistics.bootstrap import estimate, ratio_of, sum_by_cluster
from infra.statistics.comparison import (
    classify_difference,
    clustered_error,
    compare_paired,
    compare_seeds,
    correct_holm,
    count_items_needed,
)


def names(count: int, size: int = 1) -> list[str]:
    return [str(number // size) for number in range(count)]


def test_holm_corrects_as_published() -> None:
    # Holm's procedure on the p-values of R's documentation of p.adjust.
    values = [0.01, 0.02, 0.03, 0.04, 0.05]
    assert correct_holm(values) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert correct_holm([0.5, 0.001]) == pytest.approx([0.5, 0.002])
    assert correct_holm([]) == []


def test_the_error_of_independent_items_is_that_of_a_mean() -> None:
    values = np.random.default_rng(3).normal(size=200)
    expected = values.std(ddof=1) / math.sqrt(200)
    assert clustered_error(values, np.ones(200)) == pytest.approx(expected)


def test_items_of_a_cluster_count_as_one() -> None:
    draw = np.random.default_rng(5)
    values = np.repeat(draw.normal(size=60), 8)  # eight equal items per document
    stats = ratio_of(values, np.ones(480))
    alone = estimate({"": stats}, 1)[""]
    together = estimate({"": sum_by_cluster(stats, names(480, 8))}, 1)[""]
    assert together.value == pytest.approx(alone.value)
    widths = [item.high - item.low for item in (together, alone)]  # type: ignore[operator]
    assert widths[0] / widths[1] == pytest.approx(math.sqrt(8), rel=0.25)


def test_equal_systems_are_rarely_told_apart_and_unequal_ones_often() -> None:
    draw, found = np.random.default_rng(11), {0.0: 0, 0.28: 0}
    for shift in found:
        for _ in range(200):
            a = draw.normal(size=100)
            b = a + draw.normal(shift, 1.0, 100)
            result = compare_paired(a, b, np.ones(100), names(100), 0)
            assert result.low <= result.value <= result.high
            found[shift] += (
                classify_difference(result.value, result.p_value, higher_is_better=False)
                == "better"
            )
    # 5 % in both directions together, and 80 %: 0.28 is what 100 items tell with this power.
    assert found[0.0] <= 12
    assert 140 <= found[0.28] <= 180


def test_the_number_of_items_is_that_of_the_formula() -> None:
    # A difference of one standard error of 100 items takes (1.96 + 0.84)^2 times as many.
    assert count_items_needed(0.1, 0.1, 100) == 785
    assert count_items_needed(0.0, 0.1, 100) is None


def test_an_answer_needs_evidence_and_a_direction() -> None:
    assert classify_difference(-0.1, 0.001, higher_is_better=False) == "better"
    assert classify_difference(-0.1, 0.001, higher_is_better=True) == "worse"
    assert classify_difference(-0.1, 0.2, higher_is_better=True) == "cannot be told"
    assert classify_difference(-0.1, None, higher_is_better=True) == "cannot be told"


def test_seeds_that_differ_more_than_entries_tell_nothing() -> None:
    draw = np.random.default_rng(2)
    base, weights = draw.normal(2, 0.3, 300), np.ones(300)

    def seeds(*shifts: float) -> F64:
        return np.stack([base + shift + draw.normal(0, 0.01, 300) for shift in shifts])

    noisy = compare_seeds(seeds(0.0, 0.2, 0.4), seeds(0.1, 0.3, 0.5), weights, names(300), 0)
    assert noisy.p_value is not None
    assert noisy.p_value > 0.3
    assert noisy.low < 0 < noisy.high
    clear = compare_seeds(seeds(0.0, 0.01, 0.02), seeds(0.2, 0.21, 0.22), weights, names(300), 0)
    assert clear.p_value is not None
    assert clear.p_value < 0.001
    assert clear.high < 0
    assert clear.seed_sd == pytest.approx(0.01, rel=0.3)


def items(suite: str, metric: str, values: list[float], weight: float = 1.0) -> pa.Table:
    rows = [
        {"suite": suite, "item": str(n), "cluster": str(n), "metric": metric, "value": value}
        | {"weight": weight + n}
        for n, value in enumerate(values)
    ]
    return pa.Table.from_pylist(rows, ITEMS)


def test_metrics_are_weighted_means_and_compared_over_shared_items() -> None:
    table = items("books", "bits_per_byte", [1.0, 2.0, 3.0])
    [row] = estimate_items(table)
    assert row["name"] == "suite.books.bits_per_byte"
    assert row["value"] == pytest.approx((1 + 4 + 9) / 6, abs=1e-6)
    assert (row["n"], row["higher_is_better"]) == (3, False)
    other = items("books", "bits_per_byte", [0.5, 1.5])
    [(key, difference)] = compare_items(table, other).items()
    assert key == ("books", "bits_per_byte")
    assert difference.value == pytest.approx(0.5)
    assert difference.n == 2


def test_clean_items_are_those_that_were_not_found() -> None:
    table = pa.concat_tables(
        [items("s", "accuracy", [0.0, 1.0, 1.0]), items("s.code", "accuracy", [0.0])]
    )
    marked = mark_clean(table, {"s": ["0"]})
    by_name = {row["name"]: row for row in estimate_items(marked)}
    assert by_name["suite.s.clean.accuracy"]["n"] == 2
    assert by_name["suite.s.clean.accuracy"]["value"] == 1.0
    assert "suite.s.code.clean.accuracy" not in by_name
