"""Search by BM25 (Robertson and Zaragoza 2009)."""

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from tasks.finetune.metrics.compute import Predictions
from tasks.finetune.metrics.retrieval import make_retrieval_test

K1, B = 1.2, 0.75  # Lucene's defaults
MAX_RANKED = 100  # passages of a ranking
_QUERIES_PER_BLOCK = 256
_WORD = re.compile(r"\w+")


def predict_bm25(test: pa.Table) -> Predictions:
    """Rank the passages of the split for each query of ``make_retrieval_test``."""
    retrieval = make_retrieval_test(test)
    return Predictions(rank_bm25(retrieval.queries, retrieval.passages))


def rank_bm25(queries: Sequence[str], passages: Sequence[str]) -> list[list[int]]:
    """Rank passages by BM25 with the idf of Lucene, ln(1 + (N - n + 0.5) / (n + 0.5)).

    Returns:
        For each query the indices of at most ``MAX_RANKED`` passages, the best first, the earlier one of
        equally good ones; passages without a word of the query are left out.
    """
    from scipy.sparse import csr_matrix

    vocabulary: dict[str, int] = {}
    columns: list[int] = []
    rows: list[int] = []
    lengths: list[int] = []
    for row, passage in enumerate(passages):
        words = _WORD.findall(passage.casefold())
        columns.extend(vocabulary.setdefault(word, len(vocabulary)) for word in words)
        rows.extend([row] * len(words))
        lengths.append(len(words))
    shape = (len(passages), max(len(vocabulary), 1))
    # The constructor adds up the ones of equal places.
    weights = csr_matrix((np.ones(len(rows)), (rows, columns)), shape).tocoo()
    sizes = np.array(lengths, np.float64)
    norm = K1 * (1 - B + B * sizes / max(sizes.mean(), 1.0)) if len(sizes) else sizes
    containing = np.bincount(weights.col, minlength=shape[1])
    idf = np.log(1 + (len(passages) - containing + 0.5) / (containing + 0.5))
    values = weights.data * (K1 + 1) / (weights.data + norm[weights.row]) * idf[weights.col]
    by_word = csr_matrix((values, (weights.col, weights.row)), (shape[1], shape[0]))
    ranked: list[list[int]] = []
    for start in range(0, len(queries), _QUERIES_PER_BLOCK):
        block = queries[start : start + _QUERIES_PER_BLOCK]
        found = [
            (row, vocabulary[word])
            for row, query in enumerate(block)
            for word in _WORD.findall(query.casefold())
            if word in vocabulary
        ]
        places = ([row for row, _ in found], [column for _, column in found])
        asked = csr_matrix((np.ones(len(found)), places), (len(block), shape[1]))
        for scores in (asked @ by_word).toarray():
            order = np.argsort(-scores, kind="stable")[:MAX_RANKED]
            ranked.append(order[scores[order] > 0].tolist())
    return ranked
