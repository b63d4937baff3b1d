"""Evaluate word vectors: similarity of words, analogies, nearest neighbors."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from infra.compute.arrays import F32, F64
from infra.dataset.ledger import Verdict, dropped, verdict_table
from infra.dataset.stage import PartResult
from lm.models.embedding.files import WordVectors
from lm.models.model_kind import VECTORS
from tasks.evaluate.gold_sets import GoldRow, GoldSet, parse_gold_set

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("url", pa.string()),
        ("set", pa.string()),
        ("kind", pa.string()),
        ("section", pa.string()),
        ("words", pa.list_(pa.string())),
        ("gold", pa.float64()),  # the similarity that people gave
        ("cosine", pa.float64()),  # of the pair, or of the answer and b - a + c
        ("answer", pa.string()),  # of an analogy
        ("correct", pa.bool_()),
    ]
)
OUT_OF_VOCABULARY = "out_of_vocabulary"
BATCH = 256  # analogies or words whose cosines with all words are in memory
DIGITS = 6


class UnitVectors:
    """A model with its vectors scaled to length 1, so that inner products are cosines."""

    def __init__(self, model: WordVectors) -> None:
        """Scale the vectors; one of length 0 stays so."""
        self.model = model
        self.array = scale_to_unit(model.vectors)

    def lookup(self, word: str) -> F32 | None:
        """Return the vector of a word; ``None`` if it has none."""
        vector = self.model.vector(word)
        return None if vector is None else scale_to_unit(vector[None])[0]

    def nearest(
        self, queries: F32, excluded: Sequence[Sequence[int]], count: int
    ) -> list[list[tuple[int, float]]]:
        """Return for each query the words with the largest cosines, without some; ties by frequency.

        Args:
            queries: float32[n, size].
            excluded: numbers of the words that are left out, of each.
            count: how many words.
        """
        found = []
        for start in range(0, len(queries), BATCH):
            cosines = queries[start : start + BATCH] @ self.array.T
            for row, own in zip(cosines, excluded[start : start + BATCH], strict=True):
                row[list(own)] = -np.inf
                kept = min(count, len(row) - len(own))
                best = np.argsort(-row, kind="stable")[:kept] if kept > 1 else [row.argmax()][:kept]
                found.append([(int(number), round(float(row[number]), DIGITS)) for number in best])
        return found


def scale_to_unit(vectors: F32) -> F32:
    """Scale rows to length 1; rows of zeros stay so."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: F32 = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return scaled


def score_gold_set(model: WordVectors, gold: GoldSet, stage: str) -> PartResult:
    """Score the rows of a file; those with words that have no vector are dropped, bad ones failed."""
    rows = parse_gold_set(gold)
    unit = UnitVectors(model)
    score = _score_similarity if gold.kind == "similarity" else _score_analogies
    usable = [row for row in rows if row.error is None]
    scored = dict(zip([row.line for row in usable], score(unit, usable), strict=True))
    kept, verdicts = [], []
    for row in rows:
        name = f"{gold.name}:{row.line}"
        result = scored.get(row.line)
        if isinstance(result, dict):
            kept.append(
                {"id": name, "set": gold.name, "kind": gold.kind, "section": row.section}
                | {"words": list(row.words), "gold": row.score, **result}
            )
        verdicts.append(
            (name, None, result if isinstance(result, Verdict) else row.error or Verdict())
        )
    table = pa.Table.from_pylist(
        [{name: row.get(name) for name in SCHEMA.names} for row in kept], schema=SCHEMA
    )
    return PartResult(table, verdict_table(stage, verdicts))


def _score_similarity(unit: UnitVectors, rows: Sequence[GoldRow]) -> list[dict[str, Any] | Verdict]:
    results: list[dict[str, Any] | Verdict] = []
    for row in rows:
        vectors = {word: unit.lookup(word) for word in row.words}
        unknown = [word for word, vector in vectors.items() if vector is None]
        if unknown:
            results.append(dropped(OUT_OF_VOCABULARY, words=unknown))
            continue
        first, second = (np.asarray(vectors[word], np.float64) for word in row.words)
        results.append({"cosine": round(float(first @ second), DIGITS)})
    return results


def _score_analogies(unit: UnitVectors, rows: Sequence[GoldRow]) -> list[dict[str, Any] | Verdict]:
    """Answer "a is to b as c is to" by the word nearest to b - a + c, other than the three (3CosAdd)."""
    numbers = [[unit.model.find(word) for word in row.words] for row in rows]
    known = [[n for n in item if n is not None] for item in numbers]
    complete = [item for item in known if len(item) == 4]
    a, b, c = (unit.array[[item[k] for item in complete]] for k in range(3))
    answers = iter(unit.nearest(scale_to_unit(b - a + c), [item[:3] for item in complete], 1))
    results: list[dict[str, Any] | Verdict] = []
    for row, found, item in zip(rows, numbers, known, strict=True):
        if len(item) < 4:
            words = [word for word, number in zip(row.words, found, strict=True) if number is None]
            results.append(dropped(OUT_OF_VOCABULARY, words=words))
            continue
        [(answer, cosine)] = next(answers) or [(-1, 0.0)]
        text = unit.model.vocabulary.words[answer] if answer >= 0 else None
        results.append({"cosine": cosine, "answer": text, "correct": answer == item[3]})
    return results


def find_neighbors(
    model: WordVectors, words: Sequence[str], count: int, num_frequent: int
) -> list[dict[str, Any]]:
    """Return the nearest neighbors of words, or of the most frequent ones if none are named.

    A word without a vector has ``None`` for its neighbors.
    """
    unit = UnitVectors(model)
    named = list(words) or model.vocabulary.words[:num_frequent]
    vectors = [unit.lookup(word) for word in named]
    known = [number for number, vector in enumerate(vectors) if vector is not None]
    if not known:
        return [{"word": word, "neighbors": None} for word in named]
    own = [model.find(named[number]) for number in known]
    found = unit.nearest(
        np.stack([vector for vector in vectors if vector is not None]),
        [[] if number is None else [number] for number in own],
        count,
    )
    result: list[dict[str, Any]] = [{"word": word, "neighbors": None} for word in named]
    for number, neighbors in zip(known, found, strict=True):
        result[number]["neighbors"] = [
            {"word": model.vocabulary.words[neighbor], "cosine": cosine}
            for neighbor, cosine in neighbors
        ]
    return result


def summarize(sets: Sequence[GoldSet], rows: Sequence[int], scored: pa.Table) -> dict[str, Any]:
    """Return the metrics of word vectors, by kind and file.

    They have no probability of a text, so there is no ``bits_per_byte``.

    Args:
        sets: the files.
        rows: number of rows of each.
        scored: rows of ``SCHEMA``.
    """
    metrics: dict[str, Any] = {"kind": VECTORS.name, "similarity": {}, "analogies": {}}
    for gold, total in zip(sets, rows, strict=True):
        own = [row for row in scored.to_pylist() if row["set"] == gold.name]
        if gold.kind == "similarity":
            values: dict[str, Any] = {"pairs": total, "spearman": _spearman(own)}
        else:
            values = {"questions": total, "accuracy": _accuracy(own)}
            sections = dict.fromkeys(row["section"] for row in own if row["section"])
            values["by_section"] = {
                name: {
                    "scored": sum(row["section"] == name for row in own),
                    "accuracy": _accuracy([row for row in own if row["section"] == name]),
                }
                for name in sections
            }
        metrics[gold.kind][gold.name] = {"scored": len(own), **values}
    return metrics


def _accuracy(rows: Sequence[dict[str, Any]]) -> float | None:
    return round(sum(row["correct"] for row in rows) / len(rows), DIGITS) if rows else None


def _spearman(rows: Sequence[dict[str, Any]]) -> float | None:
    value = spearman([row["gold"] for row in rows], [row["cosine"] for row in rows])
    return None if value is None else round(value, DIGITS)


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation, ties with their mean rank; ``None`` if it is not defined."""
    if len(x) < 2:
        return None
    a, b = (_ranks(np.asarray(values, np.float64)) for values in (x, y))
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale else None


def _ranks(values: F64) -> F64:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: F64 = (ends - (counts - 1) / 2)[inverse]
    return ranks
