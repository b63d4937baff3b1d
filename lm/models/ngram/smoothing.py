"""Interpolated modified Kneser-Ney smoothing (Chen & Goodman 1998, section 4.1.6), as KenLM's lmplz.

With c the count of an n-gram (``OrderCounts.counts``), h its context, and h' the context without its
first id:

    p(w | h) = (c(hw) - D(c(hw))) / c(h) + backoff(h) p(w | h')

where c(h) is the sum of c(hw) over w, and ``backoff(h)`` is what the discounts D, and n-grams that are
pruned, leave of c(h), as a fraction. Below the first order is the uniform distribution over the
vocabulary. Three discounts per order, for counts of 1, 2, and 3 or more, follow from counts of
counts. Nothing is tuned.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from infra.compute.arrays import F64, I64, Bools
from infra.compute.jit import jit
from lm.models.ngram.counts import OrderCounts

Discounts = tuple[float, float, float]
# Where the estimate is undefined: lmplz's --discount_fallback. In texts of less than some thousand
# tokens not every count from 1 to 4 occurs in every order.
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)


def count_of_counts(counts: I64) -> list[int]:
    """Return how many n-grams have a count of 1, 2, 3 and 4."""
    return [int(np.count_nonzero(counts == i)) for i in (1, 2, 3, 4)]


def estimate_discounts(n: Sequence[int]) -> Discounts | None:
    """Estimate the discounts of counts of 1, 2, and 3 or more from ``count_of_counts``.

    With n_i the number of n-grams with a count of i and Y = n_1 / (n_1 + 2 n_2):
    D_i = i - (i + 1) Y n_{i+1} / n_i (Chen & Goodman 1998, equation 26).

    Returns:
        The discounts; ``None`` if they are undefined or would take more than the counts.
    """
    if not all(n):
        return None
    y = n[0] / (n[0] + 2 * n[1])
    one, two, three = (i - (i + 1) * y * n[i] / n[i - 1] for i in (1, 2, 3))
    return (one, two, three) if 0 < one <= 1 and 0 < two <= 2 and 0 < three <= 3 else None


@dataclass(frozen=True)
class ContextSums:
    """Sums over the n-grams that continue each context: int64[contexts] each.

    Attributes:
        counts: all counts, c(h).
        pruned: counts of pruned n-grams.
        by_count: int64[3, contexts]; n-grams that are kept with a count of 1, 2, and 3 or more.
    """

    counts: I64
    pruned: I64
    by_count: I64

    @staticmethod
    def from_counts(order: OrderCounts, contexts: int) -> "ContextSums":
        """Sum over the n-grams of an order, whose parents are the contexts."""
        return ContextSums.from_rows(
            _sum_contexts(order.parents, order.counts, order.kept, contexts)
        )

    def to_rows(self) -> I64:
        """Return the sums as rows, which can be added: int64[5, contexts]."""
        return np.concatenate([self.counts[None], self.pruned[None], self.by_count])

    @staticmethod
    def from_rows(rows: I64) -> "ContextSums":
        """Return what ``to_rows`` gave."""
        return ContextSums(rows[0], rows[1], rows[2:])

    def backoff(self, discounts: Discounts) -> F64:
        """Return the fraction of each context that goes to the lower order; 1 where nothing follows."""
        left = self.pruned + (np.array(discounts)[:, None] * self.by_count).sum(axis=0)
        counts = np.maximum(self.counts, 1)
        result: F64 = np.where(self.counts > 0, left / counts, 1.0)
        return result


@jit
def _sum_contexts(parents: I64, counts: I64, kept: Bools, contexts: int) -> I64:
    sums = np.zeros((5, contexts), np.int64)
    for i in range(len(parents)):
        sums[0, parents[i]] += counts[i]
        if kept[i]:
            sums[1 + min(counts[i], 3), parents[i]] += 1
        else:
            sums[1, parents[i]] += counts[i]
    return sums


def discount_counts(counts: I64, discounts: Discounts) -> F64:
    """Return counts less their discounts: float64[n]."""
    result: F64 = counts - np.array([0.0, *discounts])[np.minimum(counts, 3)]
    return result


def interpolate_uniform(counts: I64, discounts: Discounts) -> F64:
    """Return discounted relative counts, the discounts distributed evenly over all ids: float64[V]."""
    total = int(counts.sum())
    if total == 0:
        return np.full(len(counts), 1 / len(counts))
    left = sum(
        discount * int(np.count_nonzero(mask))
        for discount, mask in zip(
            discounts,
            (counts == 1, counts == 2, counts >= 3),
            strict=True,
        )
    )
    result: F64 = (discount_counts(counts, discounts) + left / len(counts)) / total
    return result
