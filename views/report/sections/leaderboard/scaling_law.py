"""A scaling law: how the loss of a family falls with the compute of training.

    L(C) = E + A C^-alpha       E: what no compute removes; C: FLOPs of training

fitted as in Hoffmann et al. 2022 (arXiv:2203.15556, approach 3): a Huber loss of log L, so that a bad run
counts little, minimized by L-BFGS from a grid of starts. The band comes from fits to points drawn anew
with replacement (the bootstrap), with a fixed seed.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from infra.compute.arrays import F64

MIN_SIZES = 4
HUBER_DELTA = 1e-3  # of log L, as published
SAMPLES = 200  # of the bootstrap
LEVEL = 0.9  # fraction of the bootstrap's fits within the band
MAX_EXPONENT = 3.0
EXPONENT_STARTS = (0.05, 0.15, 0.3, 0.6, 1.2)
FLOOR_STARTS = (0.3, 0.7, 0.9, 0.97)  # E as a fraction of the lowest loss


@dataclass(frozen=True)
class ScalingLaw:
    """A fitted law.

    Attributes:
        floor: E, in the unit of the loss.
        log_scale: log A.
        exponent: alpha.
        exponents: alpha at the ends of the band.
        samples: (floor, log_scale, exponent) of each fit of the bootstrap, float[SAMPLES, 3].
    """

    floor: float
    log_scale: float
    exponent: float
    exponents: tuple[float, float]
    samples: F64

    def loss(self, flops: F64) -> F64:
        """Return L(C) for each C."""
        law = np.array([[self.floor, self.log_scale, self.exponent]])
        return _loss(law, flops).reshape(-1)

    def band(self, flops: F64) -> tuple[F64, F64]:
        """Return the ends of the band for each C."""
        tail = (1 - LEVEL) / 2
        low, high = np.quantile(_loss(self.samples, flops), [tail, 1 - tail], axis=0)
        return low, high


def fit_scaling_law(flops: Sequence[float], losses: Sequence[float]) -> ScalingLaw:
    """Fit the law to the compute and the loss of models, at least ``MIN_SIZES`` of different compute.

    Raises:
        ValueError: if there are fewer, or a number is not positive.
    """
    if not all(math.isfinite(value) and value > 0 for value in [*flops, *losses]):
        raise ValueError("FLOPs and losses must be positive")
    x, y = np.log(np.asarray(flops, np.float64)), np.log(np.asarray(losses, np.float64))
    if len(np.unique(x)) < MIN_SIZES:
        raise ValueError(f"{len(np.unique(x))} different FLOPs; at least {MIN_SIZES} are needed")
    middle = float(x.mean())
    best = min((_minimize(x - middle, y, start) for start in _starts(y)), key=lambda fit: fit[1])[0]
    generator = np.random.default_rng(0)
    samples = np.array(
        [
            _minimize(x[chosen] - middle, y[chosen], best)[0]
            for chosen in _draw_samples(generator, x)
        ]
    )
    law, drawn = _unscale(best[None], middle)[0], _unscale(samples, middle)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn[:, 2], [tail, 1 - tail]).tolist()
    return ScalingLaw(float(law[0]), float(law[1]), float(law[2]), (low, high), drawn)


def _draw_samples(generator: np.random.Generator, x: F64) -> Iterator[npt.NDArray[np.int64]]:
    """Yield indices drawn with replacement; a law of three parameters needs three different points."""
    for _ in range(SAMPLES):
        chosen = generator.integers(len(x), size=len(x))
        while len(np.unique(x[chosen])) < 3:
            chosen = generator.integers(len(x), size=len(x))
        yield chosen


def _starts(y: F64) -> Iterator[F64]:
    """Yield (log E, log A, alpha) to start from, with C in units of its geometric mean."""
    lowest, mean = float(np.exp(y.min())), float(np.exp(y.mean()))
    for fraction, exponent in product(FLOOR_STARTS, EXPONENT_STARTS):
        floor = fraction * lowest
        yield np.array([np.log(floor), np.log(mean - floor), exponent])


def _minimize(x: F64, y: F64, start: F64) -> tuple[F64, float]:
    """Return the parameters (log E, log A, alpha) that fit best from a start, and the objective."""
    from scipy.optimize import minimize

    def objective(parameters: F64) -> tuple[float, F64]:
        floor, scale, exponent = parameters
        term = scale - exponent * x
        predicted = np.logaddexp(floor, term)
        residual = predicted - y
        clipped = np.clip(residual, -HUBER_DELTA, HUBER_DELTA)
        value = np.where(
            np.abs(residual) <= HUBER_DELTA,
            residual**2 / 2,
            HUBER_DELTA * (np.abs(residual) - HUBER_DELTA / 2),
        ).sum()
        of_term = np.exp(term - predicted)  # how much of the loss the power law is
        gradient = [clipped @ (1 - of_term), clipped @ of_term, -(clipped * of_term) @ x]
        # In units of delta squared, so that the solver's tolerances fit.
        return float(value) / HUBER_DELTA**2, np.array(gradient) / HUBER_DELTA**2

    lowest = float(y.min())
    bounds = [(lowest - 20, lowest), (None, None), (0, MAX_EXPONENT)]
    result = minimize(
        objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 100}
    )
    return result.x, float(result.fun)


def _unscale(parameters: F64, middle: float) -> F64:
    """Return (E, log A, alpha) for C in FLOPs, float[n, 3]."""
    floor, scale, exponent = parameters.T
    return np.stack([np.exp(floor), scale + exponent * middle, exponent], axis=1)


def _loss(laws: F64, flops: F64) -> F64:
    """Return L(C) of laws float[n, 3] for each C, float[n, len(flops)]."""
    floor, scale, exponent = (column[:, None] for column in laws.T)
    result: F64 = floor + np.exp(scale - exponent * np.log(flops))
    return result
