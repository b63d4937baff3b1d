"""Splits by content, folds, and examples that repeat those of the test split."""

import random
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.schemas.examples import EXAMPLES, Split
from tasks.finetune.data.overlap import OverlapIndex, find_ngrams
from tasks.finetune.data.splits import (
    NearDuplicates,
    assign_folds,
    draw_splits,
    example_ids,
    find_duplicates,
    find_near_duplicates,
    split_inputs,
)

WORDS = [a + b for a in "bdfgklmnprst" for b in ("a", "eno", "irat", "ostu", "uv")]


def sentence(rng: random.Random, n: int = 15) -> str:
    return " ".join(rng.choices(WORDS, k=n))


def test_fractions_are_about_those_asked_for() -> None:
    rng = random.Random(0)
    splits = Counter(draw_splits([sentence(rng) for _ in range(4000)], 1, 0.1, 0.2))
    assert splits["validation"] / 4000 == pytest.approx(0.1, abs=0.02)
    assert splits["test"] / 4000 == pytest.approx(0.2, abs=0.02)


@given(st.lists(st.text(max_size=8)), st.randoms())
def test_a_split_depends_on_the_text_alone(texts: list[str], rng: random.Random) -> None:
    splits = dict(zip(texts, draw_splits(texts, 7, 0.3, 0.3), strict=True))
    shuffled = [*texts, "another"]
    rng.shuffle(shuffled)
    again = dict(zip(shuffled, draw_splits(shuffled, 7, 0.3, 0.3), strict=True))
    assert {text: again[text] for text in texts} == splits
    # Case and white space make no other text.
    assert draw_splits([f" {text} " for text in texts], 7, 0.3, 0.3) == [splits[t] for t in texts]


def test_more_validation_leaves_the_test_split_as_it_is() -> None:
    texts = [str(i) for i in range(500)]
    held = [
        {
            t
            for t, s in zip(texts, draw_splits(texts, 1, validation, 0.2), strict=True)
            if s == "test"
        }
        for validation in (0.0, 0.3)
    ]
    assert held[0] == held[1]
    with pytest.raises(ValueError, match="fractions"):
        draw_splits(texts, 1, 0.5, 0.5)


def test_folds_hold_the_same_fraction_of_every_label_and_groups_together() -> None:
    rng = random.Random(1)
    texts = [sentence(rng) for _ in range(300)]
    labels = ["rare" if i % 10 == 0 else "often" for i in range(300)]
    folds = assign_folds([*texts, texts[0]], [*labels, "often"], 5, 3)
    assert folds[-1] == folds[0]
    for label, size in (("rare", 6), ("often", 54)):
        counts = Counter(f for f, own in zip(folds, labels, strict=False) if own == label)
        assert set(counts.values()) <= {size - 1, size, size + 1}
        assert len(counts) == 5
    with pytest.raises(ValueError, match="inputs"):
        assign_folds(["a", "a"], ["x", "x"], 2, 1)


def test_training_examples_that_repeat_held_out_ones_are_dropped() -> None:
    rng = random.Random(2)
    base = sentence(rng, 20)
    edited = base.replace(base.split()[3], "changed", 1)
    cases = [
        (base, "test", None),
        (base, "test", "duplicate"),
        (base.upper(), "train", "duplicate_of_test"),
        (edited, "train", "near_duplicate_of_test"),
        (edited + " so", "validation", "near_duplicate_of_test"),
        (sentence(rng), "validation", None),
        (sentence(rng), "train", None),
        ("tiny", "train", None),
    ]
    inputs = [text for text, _, _ in cases]
    splits = [split for _, split, _ in cases]
    verdicts = find_duplicates(inputs, inputs, splits, NearDuplicates())  # type: ignore[arg-type]
    assert [verdict.reason for verdict in verdicts] == [reason for _, _, reason in cases]
    evidence = verdicts[3].evidence
    assert evidence is not None
    assert evidence["of"] == base
    assert 0.7 <= evidence["similarity"] < 1
    exact = find_duplicates(inputs, inputs, splits, None)  # type: ignore[arg-type]
    assert [v.reason for v in exact][3:5] == [None, None]


def test_a_query_with_several_passages_is_in_one_split() -> None:
    splits: list[Split] = ["test", "train", "train", "validation", "train"]
    passages = ["one", "two", "three", "four", "asked once"]
    queries = ["What is it?", "what is it?", "And that?", "And that?", "one"]
    verdicts = find_duplicates(passages, passages, splits, NearDuplicates(), queries)
    expected = [None, "duplicate_of_test", "duplicate_of_validation", None, None]
    assert [verdict.reason for verdict in verdicts] == expected
    assert not any(v.reason for v in find_duplicates(passages, passages, splits, None))


def test_minhash_finds_what_comparing_all_pairs_finds() -> None:
    rng = random.Random(4)
    held = [sentence(rng, 20) for _ in range(150)]
    texts = []
    for text in held:
        words = text.split()
        for position in rng.sample(range(20), rng.randint(0, 6)):
            words[position] = rng.choice(WORDS)
        texts.append(" ".join(words))

    def shingles(text: str) -> set[str]:
        return {text[i : i + 5] for i in range(len(text) - 4)}

    expected = set()
    for i, text in enumerate(texts):
        mine = shingles(text)
        if any(len(mine & (o := shingles(h))) / len(mine | o) >= 0.7 for h in held):
            expected.add(i)
    found = find_near_duplicates(texts, held, NearDuplicates())
    assert 20 < len(expected) < 140
    assert set(found) <= expected
    assert len(found) >= 0.98 * len(expected)


def test_questions_are_held_out_with_their_passage_and_dialogues_by_what_is_asked() -> None:
    qa = pa.Table.from_pylist([{"question": "q", "context": "c", "answers": []}], EXAMPLES["qa"])
    assert split_inputs("qa", qa) == ["c"]
    turns = [("system", "s"), ("user", "u"), ("assistant", "a"), ("user", "v")]
    messages = [{"role": role, "content": text} for role, text in turns]
    chat = pa.Table.from_pylist([{"messages": messages}], EXAMPLES["chat"])
    assert split_inputs("chat", chat) == ["s\nu"]


def test_equal_examples_have_equal_ids() -> None:
    rows = [
        {"source": "a", "target": "b"},
        {"source": "a", "target": "b"},
        {"source": "a", "target": "c"},
    ]
    ids = example_ids("seq2seq", pa.Table.from_pylist(rows, EXAMPLES["seq2seq"]))
    assert ids[0] == ids[1] != ids[2]
    assert len(ids[0]) == 32


def test_overlap_is_thirteen_words_in_a_row() -> None:
    rng = random.Random(6)
    items = [sentence(rng, 20), sentence(rng, 20), sentence(rng, 12)]
    index = OverlapIndex(items)
    words = items[0].split()
    corpus = pa.array([f"{sentence(rng, 30)} {' '.join(words[3:16]).upper()}!", " ".join(items[1].split()[:12])])  # fmt: skip
    assert index.has_ngrams.tolist() == [True, True, False]
    found = find_ngrams(index.hashes, corpus)
    assert index.hits(found).tolist() == [True, False, False]
    assert not index.hits(find_ngrams(index.hashes, pa.array(["nothing"]))).any()
