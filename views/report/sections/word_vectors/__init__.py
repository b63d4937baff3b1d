"""Word vectors: similarity, analogies, nearest neighbors. They have no bits per byte."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.dataset.dataset import try_open_dataset
from lm.models.embedding.token_text import write_field
from lm.models.model_kind import VECTORS
from views.report.report_run import ReportRun, Section

MAX_SHOWN = 8  # neighbors of a word


@dataclass(frozen=True)
class Score:
    """A row of the table: a gold set, or a section of one, and what each model reaches on it.

    Attributes:
        title: of the set.
        measure: what the values are.
        values: (value, scored rows) of each model, ``None`` where it was not measured.
        rows: number of rows of the set.
    """

    title: str
    measure: str
    values: Sequence[tuple[float | None, int] | None]
    rows: int


@dataclass(frozen=True)
class WordVectorModels:
    """The run's word vectors.

    Attributes:
        names: of the models.
        scores: the gold sets, one row each.
        neighbors: for each word the neighbors in each model, as text.
    """

    names: Sequence[str]
    scores: Sequence[Score]
    neighbors: Mapping[str, Sequence[str]]


def collect(run: ReportRun) -> WordVectorModels | None:
    """Return the run's word vectors; ``None`` if it has none that were evaluated."""
    stats: dict[str, Mapping[str, Any]] = {}
    for entry in run.record.models:
        data = try_open_dataset(run.storage, entry.evaluate) if entry.evaluate else None
        if data is not None and data.stats.get("metrics", {}).get("kind") == VECTORS.name:
            stats[entry.name] = data.stats
    if not stats:
        return None
    return WordVectorModels(
        list(stats),
        [
            *_scores(stats, "similarity", "pairs", "spearman"),
            *_scores(stats, "analogies", "questions", "accuracy"),
        ],
        _neighbors(stats),
    )


def _scores(
    stats: Mapping[str, Mapping[str, Any]], kind: str, rows: str, measure: str
) -> list[Score]:
    by_model = [item["metrics"].get(kind, {}) for item in stats.values()]
    titles = dict.fromkeys(title for sets in by_model for title in sets)
    return [
        Score(
            title,
            measure,
            [
                (sets[title][measure], sets[title]["scored"]) if title in sets else None
                for sets in by_model
            ],
            max(sets[title][rows] for sets in by_model if title in sets),
        )
        for title in titles
    ]


def _neighbors(stats: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    by_model = [
        {item["word"]: item["neighbors"] for item in entry.get("neighbors", ())}
        for entry in stats.values()
    ]
    words = dict.fromkeys(word for neighbors in by_model for word in neighbors)
    return {write_field(word): [_join(neighbors, word) for neighbors in by_model] for word in words}


def _join(by_word: Mapping[str, Sequence[Mapping[str, Any]] | None], word: str) -> str:
    if word not in by_word:
        return "–"
    neighbors = by_word[word]
    if neighbors is None:
        return "not in the vocabulary"
    return ", ".join(
        f"{write_field(item['word'])} {item['cosine']:.2f}" for item in neighbors[:MAX_SHOWN]
    )


SECTION = Section("word_vectors", "Word vectors", collect)
