"""Decide whether one system is better than another, and how many items it takes to tell.

A metric is a weighted mean over items, such as bits per byte over documents with their bytes as weights. Both
systems have a value for each item, so the difference is that of a single sample of pairs. Its standard error
is that of a ratio of sums over clusters (Miller 2024, arXiv:2411.00640, sections 3.2 and 4.2).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from infra.compute.arrays import F64
from infra.statistics.bootstrap import CONFIDENCE, RESAMPLES, ratio_of, resample, sum_by_cluster

Answer = Literal["better", "worse", "cannot be told"]
POWER = 0.8
ALPHA = 1 - CONFIDENCE
MAX_ITEMS = 10**12  # of equal systems, or almost equal ones


@dataclass(frozen=True)
class PairedDifference:
    """The metric of one system minus that of another, over the same items.

    Attributes:
        value: the difference.
        low: lower end of its 95 % interval: paired bootstrap over clusters.
        high: upper end.
        p_value: two-sided, of a t test with standard errors clustered; ``None`` with fewer than two clusters.
            Resamples would not give one below 1 / (resamples + 1), which is too coarse for a correction.
        n: number of items.
        clusters: number of clusters.
        items_needed: number of items like these with which a difference of this size is found with a
            probability of 80 %, at a level of 5 %; ``None`` if there is no difference.
    """

    value: float
    low: float
    high: float
    p_value: float | None
    n: int
    clusters: int
    items_needed: int | None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def compare_paired(
    a: F64, b: F64, weights: F64, clusters: Sequence[str], seed: int
) -> PairedDifference:
    """Compare two systems by their values for the same items: a minus b.

    Args:
        a: the first system's value for each of n items.
        b: the second system's.
        weights: of the items, float64[n].
        clusters: the cluster of each; an item of its own is a cluster of one.
        seed: draws the resamples.

    Raises:
        ValueError: if there are no items, or all weights are zero.
    """
    if len(a) == 0 or not weights.sum() > 0:
        raise ValueError("there are no items to compare")
    joined = sum_by_cluster(ratio_of((a - b) * weights, weights), clusters)
    numerators, denominators = joined.stats[:, 0], joined.stats[:, 1]
    value = float(numerators.sum() / denominators.sum())
    count = len(numerators)
    draws = resample({"": joined}, count, seed)[""]
    low, high = np.quantile(draws[np.isfinite(draws)], [ALPHA / 2, 1 - ALPHA / 2])
    error = clustered_error(numerators, denominators)
    p_value, needed = None, None
    if error is not None:
        p_value = _two_sided_p(value, error, count)
        needed = count_items_needed(value, error, len(a))
    return PairedDifference(value, float(low), float(high), p_value, len(a), count, needed)


def clustered_error(numerators: F64, denominators: F64) -> float | None:
    """Return the standard error of a ratio of sums over independent clusters; ``None`` for one cluster.

    With residuals r = numerator - ratio * denominator, it is sqrt(C / (C - 1) * sum r^2) / sum of denominators.
    """
    count = len(numerators)
    if count < 2:
        return None
    total = denominators.sum()
    residuals = numerators - numerators.sum() / total * denominators
    return math.sqrt(count / (count - 1) * float(residuals @ residuals)) / float(total)


def _two_sided_p(value: float, error: float, clusters: int) -> float:
    from scipy.stats import t

    if error == 0:
        return 1.0 if value == 0 else 0.0
    return float(2 * t.sf(abs(value) / error, clusters - 1))


def count_items_needed(difference: float, error: float, n: int) -> int | None:
    """Return how many items it takes to find a difference with a power of 80 %, given its error with n.

    The error falls with the square root of the items: n * ((z_0.975 + z_0.8) * error / difference)^2.
    """
    if difference == 0 or error == 0:
        return None
    z = NormalDist().inv_cdf(1 - ALPHA / 2) + NormalDist().inv_cdf(POWER)
    needed = math.ceil(n * (z * error / difference) ** 2)
    return needed if needed <= MAX_ITEMS else None


def correct_holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for the number of tests (Holm 1979): each is at most 5 % only if all tests allow it.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none is smaller than the one before.
    """
    corrected = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: (p_values[i], i))):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = largest
    return corrected


def classify_difference(
    difference: float, p_value: float | None, *, higher_is_better: bool
) -> Answer:
    """Say whether the first system is better, from a difference and its corrected p-value."""
    if p_value is None or p_value > ALPHA or difference == 0:
        return "cannot be told"
    return "better" if (difference > 0) == higher_is_better else "worse"


@dataclass(frozen=True)
class SeedDifference:
    """The mean of one entry's seeds minus that of another's, over the same items.

    Attributes:
        value: the difference of the means over the seeds.
        low: lower end of its 95 % interval: items and seeds are both resampled.
        high: upper end.
        p_value: two-sided, of Welch's t test between the seeds; ``None`` with fewer than two of either.
        seed_sd: standard deviation between seeds, pooled; ``None`` with fewer than two of either.
        seeds: numbers of seeds.
        n: number of items.
    """

    value: float
    low: float
    high: float
    p_value: float | None
    seed_sd: float | None
    seeds: tuple[int, int]
    n: int

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def compare_seeds(
    a: F64, b: F64, weights: F64, clusters: Sequence[str], seed: int
) -> SeedDifference:
    """Compare two entries that were trained with several seeds each.

    What another seed would do is uncertain, beside what other items would do: an interval of the items alone
    would call a lucky seed an improvement. So each resample draws items, and seeds of both entries.

    Args:
        a: the first entry's values, float64[seeds, n].
        b: the second entry's, float64[other seeds, n].
        weights: of the items, float64[n].
        clusters: the cluster of each item.
        seed: draws the resamples.

    Raises:
        ValueError: if there are no items, or all weights are zero.
    """
    if weights.sum() <= 0:
        raise ValueError("there are no items to compare")
    stats = {
        f"{group}-{number}": sum_by_cluster(ratio_of(row * weights, weights), clusters)
        for group, values in enumerate((a, b))
        for number, row in enumerate(values)
    }
    count = len(next(iter(stats.values())).stats)
    drawn = resample(stats, count, seed)
    rng = np.random.default_rng([seed, count, len(a), len(b)])
    means, drawn_means = [], []
    for group, values in enumerate((a, b)):
        rows = np.stack([drawn[f"{group}-{number}"] for number in range(len(values))])
        picks = rng.integers(0, len(values), (RESAMPLES, len(values)))
        drawn_means.append(rows[picks, np.arange(RESAMPLES)[:, None]].mean(axis=1))
        means.append(values @ weights / weights.sum())
    differences = drawn_means[0] - drawn_means[1]
    low, high = np.quantile(differences, [ALPHA / 2, 1 - ALPHA / 2])
    p_value, spread = _compare_means(*means)
    value = float(means[0].mean() - means[1].mean())
    return SeedDifference(
        value, float(low), float(high), p_value, spread, (len(a), len(b)), len(weights)
    )


def _compare_means(a: F64, b: F64) -> tuple[float | None, float | None]:
    """Return the p-value of Welch's test and the pooled standard deviation."""
    from scipy.stats import ttest_ind_from_stats

    if min(len(a), len(b)) < 2:
        return None, None
    first, second = float(a.std(ddof=1)), float(b.std(ddof=1))
    freedom = (len(a) - 1, len(b) - 1)
    pooled = math.sqrt((freedom[0] * first**2 + freedom[1] * second**2) / sum(freedom))
    if first == second == 0:
        return (1.0 if a.mean() == b.mean() else 0.0), pooled
    result = ttest_ind_from_stats(
        a.mean(), first, len(a), b.mean(), second, len(b), equal_var=False
    )
    return float(result.pvalue), pooled
