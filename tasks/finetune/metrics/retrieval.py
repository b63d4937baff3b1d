"""Metrics of search: what place the right passages take in a ranking."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from infra.statistics.bootstrap import ExampleStats, mean_of

RECALL_AT = (1, 5, 10)
NDCG_AT = 10


@dataclass(frozen=True)
class RetrievalTest:
    """Queries, and the passages among which each looks for its own.

    Attributes:
        queries: n distinct queries.
        passages: all positive and negative passages of the split, each once.
        relevant: indices of the passages that are right for each query.
    """

    queries: list[str]
    passages: list[str]
    relevant: list[frozenset[int]]


def make_retrieval_test(examples: pa.Table) -> RetrievalTest:
    """Make the test from examples of ``embedding``; an equal query with two positives has both."""
    positions: dict[str, int] = {}
    relevant: dict[str, set[int]] = {}
    rows = examples.select(["query", "positive", "negatives"]).to_pylist()
    for row in rows:
        index = positions.setdefault(row["positive"], len(positions))
        relevant.setdefault(row["query"], set()).add(index)
    for row in rows:
        for text in row["negatives"]:
            positions.setdefault(text, len(positions))
    return RetrievalTest(
        [*relevant], [*positions], [frozenset(found) for found in relevant.values()]
    )


def retrieval_stats(
    relevant: Sequence[Collection[int]], ranked: Sequence[Sequence[int]]
) -> dict[str, ExampleStats]:
    """Return ``recall@k`` for k of 1, 5 and 10, ``mrr`` and ``ndcg@10``, means over n queries.

    Recall is the fraction of a query's right passages among the first k. MRR is 1 over the place of the
    first right one, 0 if the ranking does not hold it. NDCG has gains of 1 and a discount of
    log2(place + 1) (Järvelin and Kekäläinen 2002).

    Args:
        relevant: indices of the right passages of n queries, at least one each.
        ranked: indices of passages, the best first; a ranking may end after some places.
    """
    names = [*(f"recall@{k}" for k in RECALL_AT), "mrr", f"ndcg@{NDCG_AT}"]
    values = {name: np.zeros(len(relevant)) for name in names}
    discounts = 1 / np.log2(np.arange(2, NDCG_AT + 2))
    for row, (right, ranking) in enumerate(zip(relevant, ranked, strict=True)):
        hits = np.array([index in right for index in ranking], bool)
        for k in RECALL_AT:
            values[f"recall@{k}"][row] = hits[:k].sum() / len(right)
        if hits.any():
            values["mrr"][row] = 1 / (1 + hits.argmax())
        gains = hits[:NDCG_AT] @ discounts[: len(hits[:NDCG_AT])]
        values[f"ndcg@{NDCG_AT}"][row] = gains / discounts[: len(right)].sum()
    return {name: mean_of(numbers) for name, numbers in values.items()}
