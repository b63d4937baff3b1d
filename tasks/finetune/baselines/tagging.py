"""Tagging by the most frequent tag of each word."""

from collections import Counter

import pyarrow as pa

from tasks.finetune.metrics.compute import Predictions

Key = tuple[str, int]


def predict_word_majority(train: pa.Table, test: pa.Table) -> Predictions:
    """Predict for each word the tag that it has most often in training, for new words the most frequent.

    Semantic roles depend on the predicate: there, a word before, at and after it counts as three words.
    """
    counts: dict[Key, Counter[str]] = {}
    overall: Counter[str] = Counter()
    for row in train.select(["words", "tags", "predicate"]).to_pylist():
        for index, (word, tag) in enumerate(zip(row["words"], row["tags"], strict=True)):
            counts.setdefault(_key(word, index, row["predicate"]), Counter())[tag] += 1
            overall[tag] += 1
    best = {key: _most_frequent(counter) for key, counter in counts.items()}
    default = _most_frequent(overall)
    return Predictions(
        [
            [
                best.get(_key(word, index, row["predicate"]), default)
                for index, word in enumerate(row["words"])
            ]
            for row in test.select(["words", "predicate"]).to_pylist()
        ]
    )


def _key(word: str, index: int, predicate: int | None) -> Key:
    side = 0 if predicate is None else (index > predicate) - (index < predicate)
    return word.casefold(), side


def _most_frequent(counter: Counter[str]) -> str:
    return min(counter, key=lambda tag: (-counter[tag], tag))
