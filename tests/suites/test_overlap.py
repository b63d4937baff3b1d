"""Overlap of items with text, against a search of strings."""

import random
from dataclasses import replace

import numpy as np
import pytest

from tasks.suites.contamination import item_text, join_spans
from tasks.suites.items import SuiteItem
from tasks.suites.overlap import MIN_WORDS, NGRAM, ItemNgrams, split_words

WORDS = "the miller ground corn and seven stones fell on a grey road near our old house".split()


def text(draw: random.Random, size: int) -> list[str]:
    return [draw.choice(WORDS) for _ in range(size)]


def find(items: list[str], documents: list[str]) -> set[tuple[int, int, int, int]]:
    ngrams = ItemNgrams(items, [str(number) for number in range(len(items))])
    words = [[*ngrams.encode(document), 0] for document in documents]
    flat = np.array([word for item in words for word in item], np.int64)
    return {(run.item, run.start, run.words, run.position) for run in ngrams.find(flat)}


def search(items: list[str], documents: list[str]) -> set[tuple[int, int, int, int]]:
    """The same by comparing words: all runs that are long enough and cannot be made longer."""
    flat = [word for document in documents for word in [*split_words(document), "\0"]]
    runs = set()
    for number, item in enumerate(items):
        words = split_words(item)
        least = min(NGRAM, len(words))
        for start in range(len(words)):
            for at in range(len(flat)):
                if start and at and words[start - 1] == flat[at - 1]:
                    continue
                size = 0
                while (
                    start + size < len(words)
                    and at + size < len(flat)
                    and words[start + size] == flat[at + size]
                ):
                    size += 1
                if size >= least >= MIN_WORDS:
                    runs.add((number, start, size, at))
    return runs


@pytest.mark.parametrize("seed", range(6))
def test_runs_are_those_that_a_search_finds(seed: int) -> None:
    draw = random.Random(seed)
    items = [" ".join(text(draw, draw.choice((4, 5, 9, 13, 20, 40)))) for _ in range(12)]
    documents = []
    for _ in range(15):
        words = text(draw, 30)
        source = draw.choice(items).split()
        start = draw.randrange(len(source))
        words[draw.randrange(30) :] = source[start : start + draw.choice((6, 14, 40))]
        documents.append(" ".join(words))
    documents += draw.sample(items, 4)
    expected = search(items, documents)
    assert len(expected) >= 4
    assert find(items, documents) == expected


def test_case_and_punctuation_do_not_count() -> None:
    item = "it 's a charming and often affecting journey ."
    assert find([item], ["IT'S A “charming” -- and: often affecting (journey)"]) == {(0, 0, 8, 0)}


def test_a_run_does_not_go_over_the_end_of_a_document() -> None:
    item = " ".join(WORDS[:13])
    halves = [" ".join(WORDS[:7]), " ".join(WORDS[7:13])]
    assert find([item], halves) == set()
    assert find([item], [" ".join(halves)]) == {(0, 0, 13, 0)}


def test_how_all_items_are_worded_says_nothing_of_one_item() -> None:
    frame = "please read the following passage and answer the question below it in one word"
    items = [f"{frame} {n} {' '.join(text(random.Random(n), 20))}" for n in range(30)]
    assert find(items, [frame]) == set()
    assert {run[0] for run in find(items, [items[3]])} == {3}


def test_scripts_without_spaces_are_compared_by_character() -> None:
    item = "吾輩は猫である。名前はまだ無い。どこで生れたか。"
    assert len(split_words(item)) > 13
    assert find([item], [f"Soseki: {item}"])


def test_spans_are_joined() -> None:
    assert join_spans([(5, 9), (0, 3), (3, 4), (8, 12)]) == [(0, 4), (5, 12)]


def test_what_is_looked_for_of_an_item_is_all_that_is_read_before_its_answer() -> None:
    item = SuiteItem("1", None, "1", "In the mill", ("is full", "is full"), 1)
    assert item_text(item) == "In the mill is full"
    chosen = replace(item, contexts=(" the sack", " the barn"))
    assert item_text(chosen) == "In the mill the barn is full"
