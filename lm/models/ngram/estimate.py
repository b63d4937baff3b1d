"""From counts to a model: discounts, then the arrays of the trie, range by range."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from infra.compute.arrays import F64, I32, I64, U64
from lm.models.ngram.counts import (
    OrderCounts,
    count_first_order,
    count_ids,
    count_windows,
)
from lm.models.ngram.model import NgramModel
from lm.models.ngram.smoothing import (
    FALLBACK_DISCOUNTS,
    ContextSums,
    Discounts,
    count_of_counts,
    discount_counts,
    estimate_discounts,
    interpolate_uniform,
)
from lm.models.ngram.windows import WindowFormat


@dataclass(frozen=True)
class RangeTotals:
    """What a range of windows adds to sums over all ranges.

    Attributes:
        first_order: int64[V]; counts of the first order.
        after_first: int64[5, V]; ``ContextSums`` of the contexts of one id, as rows.
        counts_of_counts: int64[order - 1, 4]; of the orders from 2 on.
    """

    first_order: I64
    after_first: I64
    counts_of_counts: I64

    def __add__(self, other: "RangeTotals") -> "RangeTotals":
        """Return the sums over both."""
        return RangeTotals(
            self.first_order + other.first_order,
            self.after_first + other.after_first,
            self.counts_of_counts + other.counts_of_counts,
        )


def total_range(
    rows: U64, window: WindowFormat, order: int, counted: Sequence[OrderCounts]
) -> RangeTotals:
    """Sum what was counted of a range of windows."""
    size = window.vocab_size
    if order == 1:
        empty = np.zeros((5, size), np.int64), np.zeros((0, 4), np.int64)
        return RangeTotals(count_ids(rows, window), *empty)
    return RangeTotals(
        count_first_order(counted, size),
        ContextSums.from_counts(counted[0], size).to_rows(),
        np.array([count_of_counts(level.counts) for level in counted], np.int64),
    )


@dataclass(frozen=True)
class OrderPiece:
    """A range's n-grams of one order that are kept; see ``NgramModel``.

    Attributes:
        words: int32[n].
        discounted: float64[n].
        children: int64[n], the number of children of each; empty for the highest order.
        backoff: float64[n]; empty for the highest order.
    """

    words: I32
    discounted: F64
    children: I64
    backoff: F64


@dataclass(frozen=True)
class Estimate:
    """What is computed once for all ranges.

    Attributes:
        discounts: of each order from 1 on.
        fallbacks: the orders whose discounts could not be estimated.
        first_order: float64[V]; probabilities.
        after_first: sums over the contexts of one id.
    """

    discounts: tuple[Discounts, ...]
    fallbacks: tuple[int, ...]
    first_order: F64
    after_first: ContextSums

    @staticmethod
    def from_totals(totals: RangeTotals) -> "Estimate":
        """Estimate the discounts and the first order."""
        by_order = [count_of_counts(totals.first_order), *totals.counts_of_counts.tolist()]
        estimates = [estimate_discounts(n) for n in by_order]
        discounts = tuple(item or FALLBACK_DISCOUNTS for item in estimates)
        return Estimate(
            discounts,
            tuple(k for k, item in enumerate(estimates, 1) if item is None),
            interpolate_uniform(totals.first_order, discounts[0]),
            ContextSums.from_rows(totals.after_first),
        )

    def estimate_range(self, counted: Sequence[OrderCounts]) -> list[OrderPiece]:
        """Return the pieces of a range, orders 2 and higher."""
        pieces: list[OrderPiece] = []
        sums = self.after_first
        for k, level in enumerate(counted, 2):
            discounted = discount_counts(level.counts, self.discounts[k - 1])
            discounted /= sums.counts[level.parents]
            children, backoff = np.zeros(0, np.int64), np.zeros(0)
            if k - 1 < len(counted):
                following = counted[k - 1]
                sums = ContextSums.from_counts(following, len(level.words))
                parents = following.parents[following.kept]
                children = np.bincount(parents, minlength=len(level.words))[level.kept]
                backoff = sums.backoff(self.discounts[k])[level.kept]
            pieces.append(
                OrderPiece(level.words[level.kept], discounted[level.kept], children, backoff)
            )
        return pieces

    def first_piece(self, order: int) -> OrderPiece:
        """Return the piece of the first order."""
        size = len(self.first_order)
        words = np.arange(size, dtype=np.int32)
        if order == 1:
            return OrderPiece(words, self.first_order, np.zeros(0, np.int64), np.zeros(0))
        children = self.after_first.by_count.sum(axis=0)
        return OrderPiece(
            words, self.first_order, children, self.after_first.backoff(self.discounts[1])
        )


def estimate_model(rows: U64, window: WindowFormat, prune: Sequence[int]) -> NgramModel:
    """Estimate a model from all windows at once, in this process.

    Args:
        rows: uint64[n, width], which are reordered.
        window: their format, of at least as many ids as the highest order.
        prune: for each order; n-grams that occur at most so often are pruned.
    """
    order = len(prune)
    counted = count_windows(rows, window, order, prune) if order > 1 else []
    estimate = Estimate.from_totals(total_range(rows, window, order, counted))
    pieces = [estimate.first_piece(order), *estimate.estimate_range(counted)]
    vocab_size, counts = len(pieces[0].words), np.concatenate([p.children for p in pieces])
    children = np.empty(len(counts) + 1, np.int64)
    children[0] = vocab_size
    np.cumsum(counts, out=children[1:])
    children[1:] += vocab_size
    return NgramModel(
        window.eos,
        tuple(len(piece.words) for piece in pieces),
        np.concatenate([piece.words for piece in pieces]),
        np.concatenate([piece.discounted for piece in pieces]),
        children,
        np.concatenate([piece.backoff for piece in pieces]),
    )
