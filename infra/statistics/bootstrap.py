"""Intervals of metrics and paired tests, by the bootstrap over examples (Efron and Tibshirani 1993).

Every metric here is a function of sums over examples: accuracy of the sum of hits, F1 of the sums of true
and false positives, BLEU of the sums of n-gram counts. So a resample of the examples is a vector of weights,
and all resamples are one product of matrices.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from infra.compute.arrays import F64

RESAMPLES = 1000
CONFIDENCE = 0.95
_BLOCK_CELLS = 1 << 22  # weights that are in memory at a time


@dataclass(frozen=True)
class ExampleStats:
    """A metric as a function of sums over n examples.

    Attributes:
        stats: float64[n, k], what each example adds.
        compute: maps sums, float64[..., k], to the metric, float64[...]; NaN where it is undefined.
        is_rate: whether it is the fraction of the examples of which something is true. Its interval is
            Wilson's: resamples of examples that are all right would give an interval without a width.
    """

    stats: F64
    compute: Callable[[F64], F64]
    is_rate: bool = False


@dataclass(frozen=True)
class Estimate:
    """A metric of a system.

    Attributes:
        value: over all examples; ``None`` if it is undefined, as recall without a positive example.
        low: lower end of the 95 % interval: percentile bootstrap, or Wilson's of a rate.
        high: upper end.
        n: number of examples that it rests on.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Difference:
    """A metric of one system minus that of another, on the same examples.

    Attributes:
        value: the difference.
        low: lower end of its 95 % interval.
        high: upper end.
        p_value: two-sided: twice the fraction of resamples on the other side of zero than the
            difference, at least 1 / (resamples + 1).
        n: number of examples.
    """

    value: float | None
    low: float | None
    high: float | None
    p_value: float | None
    n: int

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def mean_of(values: F64) -> ExampleStats:
    """Make a metric that is the mean of a number per example, float64[n]."""
    is_rate = len(values) > 0 and bool(np.isin(values, (0, 1)).all())
    return replace(ratio_of(values, np.ones(len(values))), is_rate=is_rate)


def ratio_of(numerators: F64, denominators: F64) -> ExampleStats:
    """Make a metric that is a sum over another sum, such as negative log-likelihood per token."""
    stats = np.stack([numerators, denominators], axis=1).astype(np.float64)
    return ExampleStats(stats, lambda sums: divide(sums[..., 0], sums[..., 1]))


def divide(a: F64, b: F64) -> F64:
    """Divide; NaN where the divisor is zero."""
    out: F64 = np.full(np.broadcast(a, b).shape, np.nan)
    np.divide(a, b, out=out, where=b != 0)
    return out


def sum_by_cluster(metric: ExampleStats, clusters: Sequence[str]) -> ExampleStats:
    """Join the examples of a cluster, such as the questions on one passage: they are drawn together.

    Examples that share a document are not independent; resampling them one by one gives intervals that are
    too narrow (Miller 2024, arXiv:2411.00640).

    Args:
        metric: of n examples.
        clusters: the cluster of each.
    """
    _, index = np.unique(np.asarray(clusters, str), return_inverse=True)
    if len(index) == 0 or index.max() + 1 == len(index):
        return metric  # every example is a cluster of its own
    sums = np.zeros((index.max() + 1, metric.stats.shape[1]))
    np.add.at(sums, index, metric.stats)
    return ExampleStats(sums, metric.compute)


def estimate(metrics: Mapping[str, ExampleStats], seed: int) -> dict[str, Estimate]:
    """Compute metrics with their intervals; all are of the same examples and resamples."""
    if not metrics:
        return {}
    n = _count_examples(metrics)
    values = resample(metrics, n, seed)
    out = {}
    for name, metric in metrics.items():
        value = float(metric.compute(metric.stats.sum(axis=0))) if n else np.nan
        low, high = wilson(value, n) if metric.is_rate else _interval(values[name])
        out[name] = Estimate(_finite(value), low, high, n)
    return out


def compare(
    a: Mapping[str, ExampleStats], b: Mapping[str, ExampleStats], seed: int
) -> dict[str, Difference]:
    """Compare the metrics that two systems have in common: a minus b, resampled together.

    Raises:
        ValueError: if the systems were measured on different numbers of examples.
    """
    names = [name for name in a if name in b]
    if not names:
        return {}
    n = _count_examples({**{f"a{k}": a[k] for k in names}, **{f"b{k}": b[k] for k in names}})
    first = resample({name: a[name] for name in names}, n, seed)
    second = resample({name: b[name] for name in names}, n, seed)
    out = {}
    for name in names:
        pair = [metric.compute(metric.stats.sum(axis=0)) for metric in (a[name], b[name])]
        value = _finite(float(pair[0] - pair[1])) if n else None
        differences = first[name] - second[name]
        low, high = _interval(differences)
        out[name] = Difference(value, low, high, _p_value(value, differences), n)
    return out


def _count_examples(metrics: Mapping[str, ExampleStats]) -> int:
    sizes = {len(metric.stats) for metric in metrics.values()}
    if len(sizes) != 1:
        raise ValueError(f"metrics of {sorted(sizes)} examples cannot be compared")
    return sizes.pop()


def resample(metrics: Mapping[str, ExampleStats], n: int, seed: int) -> dict[str, F64]:
    """Return the value of each metric in each resample."""
    if n == 0:
        return {name: np.full(RESAMPLES, np.nan) for name in metrics}
    values: dict[str, list[F64]] = {name: [] for name in metrics}
    for weights in _iter_weights(n, seed):
        for name, metric in metrics.items():
            values[name].append(metric.compute(weights @ metric.stats))
    return {name: np.concatenate(blocks) for name, blocks in values.items()}


def _iter_weights(n: int, seed: int) -> Iterator[F64]:
    """Yield how often each example is drawn, float64[b, n], for all resamples; a function of n and seed."""
    rng = np.random.default_rng([seed, n])
    block = max(1, min(RESAMPLES, _BLOCK_CELLS // n))
    for start in range(0, RESAMPLES, block):
        size = min(block, RESAMPLES - start)
        draws = rng.integers(0, n, (size, n))
        draws += np.arange(size)[:, None] * n
        yield np.bincount(draws.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)


def _interval(values: F64) -> tuple[float | None, float | None]:
    defined = values[np.isfinite(values)]
    if not len(defined):
        return None, None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def wilson(rate: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a rate over n examples (Wilson 1927).

    Zero of n gives an upper end of about 3.8 / n, n of n the same from above.
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    center = rate + z * z / (2 * n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (center - half) / scale), min(1.0, (center + half) / scale)


def _p_value(value: float | None, differences: F64) -> float | None:
    defined = differences[np.isfinite(differences)]
    if value is None or not len(defined):
        return None
    # A resample without a difference speaks for neither side.
    other = float(np.mean(defined <= 0) if value > 0 else np.mean(defined >= 0))
    return min(1.0, max(2 * other, 1 / (len(defined) + 1)))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def mcnemar(a_correct: F64, b_correct: F64) -> dict[str, float | int]:
    """Test whether two systems differ in how often they are right (McNemar 1947), exactly.

    Only examples on which one of the two is right count: under the null hypothesis, each of the two
    is with probability 1/2.

    Args:
        a_correct: 1 where the first system is right, [n].
        b_correct: the same of the second.

    Returns:
        ``only_a``, ``only_b``: examples on which one alone is right; ``p_value``, two-sided.
    """
    from scipy.stats import binomtest

    a, b = a_correct.astype(bool), b_correct.astype(bool)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    n = only_a + only_b
    p_value = float(binomtest(only_a, n, 0.5).pvalue) if n else 1.0
    return {"only_a": only_a, "only_b": only_b, "p_value": p_value}
