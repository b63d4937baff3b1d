"""Edited copies of training examples."""

import random
from collections import Counter

import pyarrow as pa
import pytest

from infra.schemas.examples import example_schema
from tasks.finetune.augment import augment_examples, edit_text
from tasks.finetune.augment_config import AugmentConfig

TEXT = "the quick brown fox jumps over a lazy dog and runs away from it"


def config(**values: float) -> AugmentConfig:
    return AugmentConfig.model_validate({"delete": 0.0, "swap": 0.0, **values})


def test_copies_keep_labels_and_folds_and_have_ids_of_their_own() -> None:
    rows = [
        {"id": str(i), "split": "train", "file": "f", "row": i, "fold": i % 2, "text": TEXT, "text_pair": None, "labels": [str(i)]}
        for i in range(4)
    ]  # fmt: skip
    train = pa.Table.from_pylist(rows, schema=example_schema("classification"))
    state = random.getstate()
    made = augment_examples(train, config(copies=2, delete=0.3), 1)
    assert random.getstate() == state
    assert made.slice(0, 4).equals(train)
    assert made["id"].to_pylist()[4:] == [f"{i}+{n}" for n in (1, 2) for i in range(4)]
    for column in ("labels", "fold", "text_pair"):
        assert made[column].to_pylist() == train[column].to_pylist() * 3
    assert len(set(made["text"].to_pylist())) == 9  # every copy is another one
    assert made.equals(augment_examples(train, config(copies=2, delete=0.3), 1))
    assert not made.equals(augment_examples(train, config(copies=2, delete=0.3), 2))


def test_swaps_keep_all_words() -> None:
    swapped = edit_text(TEXT, config(swap=0.5), (), "a")
    assert swapped != TEXT
    assert Counter(swapped.split()) == Counter(TEXT.split())


def test_fractions_are_those_asked_for_and_a_word_remains() -> None:
    n = len(TEXT.split())
    sizes = [len(edit_text(TEXT, config(delete=0.25), (), str(i)).split()) for i in range(500)]
    assert sum(sizes) / 500 == pytest.approx(0.75 * n, abs=0.4)
    edits = [edit_text(TEXT, config(insert=0.2), ("new",), str(i)) for i in range(500)]
    assert sum(text.split().count("new") for text in edits) / 500 == pytest.approx(0.2 * n, abs=0.1)
    assert all(edit_text("one", config(delete=0.9), (), str(i)) == "one" for i in range(20))
    assert edit_text(" ", config(delete=0.9), (), "a") == " "
