"""Evaluate word vectors: similarity of words, analogies, nearest neighbors."""

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from infra.compute.arrays import F32, F64
from infra.dataset.ledger import Verdict, dropped, verdict_table
from infra.dataset.stage import PartResult
from infra.schemas.metrics import ITEMS_FILE, estimate_items, make_items, metric_name, metric_row
from infra.statistics.bootstrap import Estimate
from lm.models.embedding.files import WordVectors
from lm.models.model_kind import VECTORS
from tasks.evaluate.config import WordVectorsConfig
from tasks.evaluate.cosines import inner_products, to_unit_rows
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
MAX_COSINES = 1 << 24  # in memory at a time: 64 MiB
DIGITS = 6
NEIGHBORS_FILE = "neighbors.json"
PROJECTION_FILE = "projection.json"


class UnitVectors:
    """A model with its vectors scaled to length 1, so that inner products are cosines.

    Attributes:
        model: the model.
        array: float32[words, padded], see ``to_unit_rows``.
    """

    def __init__(self, model: WordVectors) -> None:
        """Scale the vectors; one of length 0 stays so."""
        self.model = model
        self.array = to_unit_rows(model.vectors)

    def lookup(self, word: str) -> F32 | None:
        """Return the vector of a word, float32[padded]; ``None`` if it has none."""
        vector = self.model.vector(word)
        return None if vector is None else np.asarray(to_unit_rows(vector[None])[0])

    def nearest(
        self, queries: F32, excluded: Sequence[Sequence[int]], count: int
    ) -> list[list[tuple[int, float]]]:
        """Return for each query the words with the largest cosines, without some; ties by frequency.

        Args:
            queries: float32[n, padded], of length 1.
            excluded: numbers of the words that are left out, of each.
            count: how many words.
        """
        results = []
        batch = max(1, MAX_COSINES // len(self.array))
        for start in range(0, len(queries), batch):
            cosines = inner_products(queries[start : start + batch], self.array)
            for row, numbers in zip(cosines, excluded[start : start + batch], strict=True):
                row[list(numbers)] = -np.inf
                kept = min(count, len(row) - len(set(numbers)))
                best = np.argsort(-row, kind="stable")[:kept] if kept > 1 else [row.argmax()][:kept]
                results.append([(int(word), round(float(row[word]), DIGITS)) for word in best])
        return results


def score_gold_set(model: WordVectors, gold: GoldSet, stage: str) -> PartResult:
    """Score the rows of a file; those with words that have no vector are dropped, bad ones failed."""
    rows = parse_gold_set(gold)
    unit = UnitVectors(model)
    score = _score_similarity if gold.kind == "similarity" else _score_analogies
    usable = [row for row in rows if row.error is None]
    scored = dict(zip([row.line for row in usable], score(unit, usable), strict=True))
    kept, verdicts = [], []
    for row in rows:
        name = _row_id(gold, row)
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
    files = {ITEMS_FILE: make_items(_analogy_items(gold, usable, scored))}
    return PartResult(table, verdict_table(stage, verdicts), files)


def _analogy_items(
    gold: GoldSet, usable: Sequence[GoldRow], scored: Mapping[int, dict[str, Any] | Verdict]
) -> Iterator[dict[str, Any]]:
    """Yield whether each analogy was solved; one with a word that has no vector was not."""
    for row in usable if gold.kind == "analogies" else ():
        result, name = scored[row.line], _row_id(gold, row)
        solved = isinstance(result, dict) and bool(result["correct"])
        common = {"suite": gold.name, "item": name, "cluster": name}
        yield {**common, "metric": "accuracy_all", "value": float(solved), "weight": 1.0}


def metric_rows(sets: Sequence[GoldSet], scored: pa.Table, items: pa.Table) -> list[dict[str, Any]]:
    """Return ``infra.schemas.metrics.METRICS`` rows: ``accuracy_all``, and ``spearman_all`` without an interval."""
    similarity = summarize(sets, scored)["similarity"]
    correlations = [
        metric_row(
            metric_name(name, "spearman_all"),
            Estimate(values["spearman_all"], None, None, values["pairs"]),
        )
        for name, values in sorted(similarity.items())
    ]
    return [*correlations, *estimate_items(items)]


def _score_similarity(unit: UnitVectors, rows: Sequence[GoldRow]) -> list[dict[str, Any] | Verdict]:
    results: list[dict[str, Any] | Verdict] = []
    for row in rows:
        vectors = {word: unit.lookup(word) for word in row.words}
        unknown = [word for word, vector in vectors.items() if vector is None]
        if unknown:
            results.append(dropped(OUT_OF_VOCABULARY, words=unknown))
            continue
        first, second = (np.asarray(vectors[word])[None] for word in row.words)
        results.append({"cosine": round(float(inner_products(first, second)[0, 0]), DIGITS)})
    return results


def _score_analogies(unit: UnitVectors, rows: Sequence[GoldRow]) -> list[dict[str, Any] | Verdict]:
    """Answer "a is to b as c is to" by the word nearest to b - a + c, other than the three (3CosAdd)."""
    numbers = [[unit.model.find(word) for word in row.words] for row in rows]
    known = [[n for n in item if n is not None] for item in numbers]
    complete = [item for item in known if len(item) == 4]
    a, b, c = (unit.array[[item[k] for item in complete]] for k in range(3))
    answers = iter(unit.nearest(to_unit_rows(b - a + c), [item[:3] for item in complete], 1))
    results: list[dict[str, Any] | Verdict] = []
    for row, indices, item in zip(rows, numbers, known, strict=True):
        if len(item) < 4:
            words = [word for word, index in zip(row.words, indices, strict=True) if index is None]
            results.append(dropped(OUT_OF_VOCABULARY, words=words))
            continue
        [(answer, cosine)] = next(answers) or [(-1, 0.0)]
        text = unit.model.vocabulary.words[answer] if answer >= 0 else None
        results.append({"cosine": cosine, "answer": text, "correct": answer == item[3]})
    return results


def find_neighbors(model: WordVectors, config: WordVectorsConfig, stage: str) -> PartResult:
    """Write the nearest neighbors of words as a file: of those named, or of the most frequent ones.

    A word without a vector has ``None`` for its neighbors.
    """
    named = list(config.neighbors) or model.vocabulary.words[: config.num_frequent]
    neighbors = list_neighbors(model, named, config.num_neighbors)
    files = {
        name: json.dumps(value, ensure_ascii=False).encode()
        for name, value in (
            (NEIGHBORS_FILE, neighbors),
            (PROJECTION_FILE, project_words(model, neighbors)),
        )
    }
    return PartResult(SCHEMA.empty_table(), verdict_table(stage, []), files)


def project_words(
    model: WordVectors, neighbors: Sequence[Mapping[str, Any]]
) -> dict[str, list[float]]:
    """Return the first two principal components of words and of their neighbors, at length 1, by word."""
    import torch  # here, for processes that only read the module start faster without it

    from lm.interpret.embeddings import project
    from lm.models.single_thread import single_thread

    words = dict.fromkeys(
        word
        for item in neighbors
        if item["neighbors"] is not None
        for word in (item["word"], *(own["word"] for own in item["neighbors"]))
    )
    vectors = [np.asarray(model.vector(word), np.float64) for word in words]
    if not vectors:
        return {}
    unit = torch.nn.functional.normalize(torch.from_numpy(np.stack(vectors)), dim=-1)
    with single_thread():
        points = project(unit).tolist()
    return {
        word: [round(x, DIGITS), round(y, DIGITS)]
        for word, (x, y) in zip(words, points, strict=True)
    }


def list_neighbors(model: WordVectors, named: Sequence[str], count: int) -> list[dict[str, Any]]:
    """Return ``word`` and ``neighbors``, each with its ``cosine``, of each word."""
    unit = UnitVectors(model)
    vectors = [unit.lookup(word) for word in named]
    known = [number for number, vector in enumerate(vectors) if vector is not None]
    if not known:
        return [{"word": word, "neighbors": None} for word in named]
    numbers = [model.find(named[number]) for number in known]
    nearest = unit.nearest(
        np.stack([vector for vector in vectors if vector is not None]),
        [[] if number is None else [number] for number in numbers],
        count,
    )
    result: list[dict[str, Any]] = [{"word": word, "neighbors": None} for word in named]
    for number, neighbors in zip(known, nearest, strict=True):
        result[number]["neighbors"] = [
            {"word": model.vocabulary.words[neighbor], "cosine": cosine}
            for neighbor, cosine in neighbors
        ]
    return result


def summarize(sets: Sequence[GoldSet], scored: pa.Table) -> dict[str, Any]:
    """Return the metrics of word vectors, by kind and file.

    They have no probability of a text, so there is no ``bits_per_byte``. ``spearman`` and ``accuracy`` are of
    the rows all of whose words have a vector; ``spearman_all`` and ``accuracy_all`` of all rows, of which the
    others count as similar as the median pair, which is to know nothing of them, and as wrong. So a model cannot
    gain by having few words.

    Args:
        sets: the files.
        scored: rows of ``SCHEMA``.
    """
    metrics: dict[str, Any] = {"kind": VECTORS.name, "similarity": {}, "analogies": {}}
    by_set: dict[str, dict[str, dict[str, Any]]] = {gold.name: {} for gold in sets}
    for row in scored.to_pylist():
        by_set[row["set"]][row["id"]] = row
    for gold in sets:
        rows = [row for row in parse_gold_set(gold) if row.error is None]
        results = [by_set[gold.name].get(_row_id(gold, row)) for row in rows]
        known = [result for result in results if result is not None]
        if gold.kind == "similarity":
            middle = statistics.median([item["cosine"] for item in known] or [0.0])
            every = [
                item or {"gold": row.score, "cosine": middle}
                for row, item in zip(rows, results, strict=True)
            ]
            values: dict[str, Any] = {
                "pairs": len(rows),
                "spearman": _spearman(known),
                "spearman_all": _spearman(every),
            }
        else:
            values = {
                "questions": len(rows),
                "accuracy": _accuracy(known, len(known)),
                "accuracy_all": _accuracy(known, len(rows)),
                "by_section": _by_section(known),
            }
        metrics[gold.kind][gold.name] = {"scored": len(known), **values}
    return metrics


def _by_section(known: Sequence[dict[str, Any]]) -> dict[str, Any]:
    sections: dict[str, list[dict[str, Any]]] = {}
    for row in known:
        if row["section"]:
            sections.setdefault(row["section"], []).append(row)
    return {
        name: {"scored": len(rows), "accuracy": _accuracy(rows, len(rows))}
        for name, rows in sections.items()
    }


def _row_id(gold: GoldSet, row: GoldRow) -> str:
    return f"{gold.name}:{row.line}"


def _accuracy(known: Sequence[dict[str, Any]], total: int) -> float | None:
    return round(sum(row["correct"] for row in known) / total, DIGITS) if total else None


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
