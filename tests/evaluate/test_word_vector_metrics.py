"""Metrics of word vectors: words without a vector are no advantage, and no disturbance."""

from typing import Any

import pyarrow as pa
import pytest

from tasks.evaluate.gold_sets import GoldSet
from tasks.evaluate.word_vectors import SCHEMA, summarize


def scored(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(
        [{name: row.get(name) for name in SCHEMA.names} for row in rows], schema=SCHEMA
    )


def pair(line: int, gold: float, cosine: float) -> dict[str, Any]:
    return {"id": f"pairs:{line}", "set": "pairs", "gold": gold, "cosine": cosine}


def test_a_pair_without_vectors_counts_as_the_median_pair() -> None:
    gold = GoldSet("pairs", "similarity", b"a\tb\t3\nc\td\t1\ne\tf\t2\n")
    # The unknown pair is between the others for people, and so it is for a model that knows nothing of it.
    found = summarize([gold], scored(pair(1, 3, 0.9), pair(2, 1, 0.1)))["similarity"]["pairs"]
    assert found == {"scored": 2, "pairs": 3, "spearman": 1.0, "spearman_all": 1.0}
    found = summarize([gold], scored(pair(1, 3, 0.9), pair(3, 2, 0.1)))["similarity"]["pairs"]
    assert (found["spearman"], found["spearman_all"]) == (1.0, 0.5)
    nothing = summarize([gold], scored())["similarity"]["pairs"]
    assert nothing == {"scored": 0, "pairs": 3, "spearman": None, "spearman_all": None}


def test_a_question_without_vectors_is_answered_wrongly() -> None:
    gold = GoldSet("questions", "analogies", b": one\na b c d\ne f g h\nbad\n")
    row = {"id": "questions:2", "set": "questions", "section": "one", "correct": True}
    found = summarize([gold], scored(row))["analogies"]["questions"]
    assert (found["questions"], found["scored"]) == (2, 1)
    assert (found["accuracy"], found["accuracy_all"]) == (1.0, 0.5)
    assert found["by_section"] == {"one": {"scored": 1, "accuracy": pytest.approx(1.0)}}
