"""Edits of training texts."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tasks.finetune.augment import Edits, edit_text, edit_words

WORDS = "the quick brown fox jumps over a lazy dog and runs away from it".split()


@given(st.lists(st.text(min_size=1, max_size=4)), st.integers(0, 5), st.integers())
def test_an_edit_is_a_function_of_seed_id_and_epoch(
    words: list[str], epoch: int, seed: int
) -> None:
    edits = Edits(probability=1, delete=0.5, swap=0.3, insert=0.2, vocabulary=("new",))
    state = random.getstate()
    first = edit_words(words, edits, seed=seed, example_id="a", epoch=epoch)
    assert first == edit_words(words, edits, seed=seed, example_id="a", epoch=epoch)
    assert random.getstate() == state
    assert bool(first) == bool(words)
    assert set(first) <= {*words, "new"}


def test_epochs_and_examples_differ() -> None:
    edits = Edits(probability=1)
    results = {
        edit_text(" ".join(WORDS), edits, seed=1, example_id=name, epoch=epoch)
        for name in "abcd"
        for epoch in range(5)
    }
    assert len(results) > 15


def test_swaps_keep_all_words_and_no_edit_keeps_the_text() -> None:
    swapped = edit_words(WORDS, Edits(1, delete=0, swap=0.5), seed=1, example_id="a", epoch=0)
    assert swapped != WORDS
    assert Counter(swapped) == Counter(WORDS)
    text = "two  spaces"
    assert edit_text(text, Edits(probability=0), seed=1, example_id="a", epoch=0) == text


def test_fractions_are_those_asked_for() -> None:
    edits = Edits(1, delete=0.25, swap=0, insert=0)
    sizes = [len(edit_words(WORDS, edits, seed=1, example_id=str(i), epoch=0)) for i in range(500)]
    assert abs(sum(sizes) / 500 - 0.75 * len(WORDS)) < 0.4
    edits = Edits(1, delete=0, swap=0, insert=0.2, vocabulary=("new",))
    counts = [
        edit_words(WORDS, edits, seed=1, example_id=str(i), epoch=0).count("new")
        for i in range(500)
    ]
    assert abs(sum(counts) / 500 - 0.2 * len(WORDS)) < 0.1


def test_words_are_replaced_by_their_neighbors() -> None:
    edits = Edits(1, delete=0, swap=0, replace=1.0, neighbors={"quick": ["fast"], "dog": ["hound"]})
    edited = edit_words(["Quick", "brown", "dog"], edits, seed=1, example_id="a", epoch=0)
    assert edited == ["fast", "brown", "hound"]
