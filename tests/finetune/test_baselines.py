"""Baselines that learn what can be learned, and do so twice alike."""

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from infra.schemas.examples import EXAMPLES, Task
from tasks.finetune.baselines.fit import fit_baselines
from tasks.finetune.baselines.search import K1, B, rank_bm25
from tasks.finetune.baselines.seq2seq import learn_dictionary
from tasks.finetune.metrics.compute import Predictions, compute_metrics

LABELS = ("bad", "good", "so so")
FILLER = "the a film plot actor scene was with and of".split()


def table(task: Task, rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=EXAMPLES[task])


def reviews(seed: int, n: int, *, several: bool = False) -> pa.Table:
    rng = random.Random(seed)
    cues = {"bad": "awful", "good": "great", "so so": "fine"}
    rows = []
    for _ in range(n):
        labels = rng.sample(LABELS, rng.randint(0, 3) if several else 1)
        words = rng.choices(FILLER, k=8) + [cues[label] for label in labels]
        rng.shuffle(words)
        rows.append({"text": " ".join(words), "labels": sorted(labels)})
    return table("classification", rows)


def fit(task: Task, train: pa.Table, test: pa.Table, labels: Any = ()) -> dict[str, Predictions]:
    return dict(fit_baselines(task, train, test, test, labels, 1))


@pytest.mark.parametrize("several", [False, True])
def test_classifiers_find_the_words_that_decide(several: bool) -> None:
    # Sorted by label, as files often are.
    train = reviews(1, 400, several=several)
    labels = [" ".join(names) for names in train["labels"].to_pylist()]
    train = train.take(pa.array(sorted(range(400), key=labels.__getitem__)))
    test = reviews(2, 150, several=several)
    found = fit("classification", train, test, LABELS)
    assert [*found] == ["majority", "tfidf_logistic_regression", "fasttext"]
    accuracy = {
        name: compute_metrics("classification", test, item, LABELS, 1)["accuracy"]["value"]
        for name, item in found.items()
    }
    assert accuracy["tfidf_logistic_regression"] > 0.95
    assert accuracy["fasttext"] > 0.9
    assert accuracy["majority"] < 0.6
    again = fit("classification", train, test, LABELS)
    for name, item in found.items():
        assert item.items == again[name].items
        other = again[name].scores
        assert item.scores is not None
        assert other is not None
        assert np.array_equal(item.scores, other)
        if not several:
            assert item.scores.sum(axis=1) == pytest.approx(1, abs=1e-3)


def test_the_second_text_of_a_pair_counts() -> None:
    rng = random.Random(3)
    rows = []
    for _ in range(300):
        pair = rng.choice(["yes", "no"])
        rows.append({"text": " ".join(rng.choices(FILLER, k=4)), "text_pair": f"so {pair}", "labels": [pair]})  # fmt: skip
    data = table("classification", rows)
    found = fit("classification", data.slice(0, 200), data.slice(200), ["no", "yes"])
    gold = data.slice(200)["labels"].to_pylist()
    assert found["tfidf_logistic_regression"].items == gold
    assert found["fasttext"].items == gold


def test_one_class_and_an_empty_test_split_are_no_error() -> None:
    train = table("classification", [{"text": "a b", "labels": ["good"]}] * 3)
    found = fit("classification", train, train.slice(0, 0), ["good"])
    assert [item.items for item in found.values()] == [[], [], []]
    found = fit("classification", train, train.slice(0, 1), ["good"])
    assert [item.items for item in found.values()] == [[["good"]]] * 3
    with pytest.raises(ValueError, match="empty"):
        fit("classification", train.slice(0, 0), train, ["good"])


def test_words_get_their_most_frequent_tag_and_roles_depend_on_the_side() -> None:
    rows = [
        {"words": ["dogs", "bite", "men"], "tags": ["B-A0", "B-V", "B-A1"], "predicate": 1},
        {"words": ["men", "bite", "dogs"], "tags": ["B-A0", "B-V", "B-A1"], "predicate": 1},
    ]
    data = table("tagging", rows)
    assert fit("tagging", data, data)["word_majority"].items == [row["tags"] for row in rows]


def test_the_sentence_with_the_words_of_the_question_answers() -> None:
    context = "Rome is old. Paris is the capital of France. It rains."
    rows = [
        {"question": "What is the capital of France?", "context": context, "answers": []},
    ]
    found = fit("qa", table("qa", rows), table("qa", rows))
    assert found["best_sentence"].items == ["Paris is the capital of France."]
    assert found["no_answer"].items == [""]


def test_a_dictionary_is_learned_from_pairs_of_sentences() -> None:
    words = {
        "cat": "Katze",
        "dog": "Hund",
        "sees": "sieht",
        "hears": "hört",
        "house": "Haus",
        "the": "das",
    }
    rng = random.Random(0)
    pairs = []
    for _ in range(300):
        source = rng.choices([*words], k=4)
        target = [words[word] for word in source]
        rng.shuffle(target)
        pairs.append((" ".join(source), " ".join(target)))
    learned = learn_dictionary(*zip(*pairs, strict=True))
    assert learned == {source: target.casefold() for source, target in words.items()}
    rows = [{"source": a, "target": b} for a, b in pairs]
    test = table("seq2seq", [{"source": "The cat sees Xerxes.", "target": "x"}])
    found = fit("seq2seq", table("seq2seq", rows), test)
    assert [*found] == ["copy", "dictionary"]
    assert found["dictionary"].items == ["Das katze sieht Xerxes."]


def test_short_targets_are_summaries_and_have_the_lead_as_baseline() -> None:
    source = "One thing happened. Then another. A third. And a fourth that is long."
    data = table("seq2seq", [{"source": source, "target": "Things."}])
    found = fit("seq2seq", data, data)
    assert found["lead_1"].items == ["One thing happened."]
    assert found["lead_3"].items == ["One thing happened. Then another. A third."]
    assert "dictionary" not in found


def test_bm25_is_its_formula() -> None:
    rng = random.Random(7)
    passages = [" ".join(rng.choices(FILLER, k=rng.randint(3, 12))) for _ in range(40)]
    queries = [" ".join(rng.choices(FILLER, k=3)) for _ in range(10)]
    mean = np.mean([len(p.split()) for p in passages])

    def score(query: str, passage: str) -> float:
        words = passage.split()
        total = 0.0
        for word in query.split():
            n = sum(word in other.split() for other in passages)
            idf = np.log(1 + (len(passages) - n + 0.5) / (n + 0.5))
            tf = words.count(word)
            total += idf * tf * (K1 + 1) / (tf + K1 * (1 - B + B * len(words) / mean))
        return total

    for query, ranked in zip(queries, rank_bm25(queries, passages), strict=True):
        scores = [score(query, passage) for passage in passages]
        expected = sorted((s for s in scores if s > 0), reverse=True)
        assert [scores[i] for i in ranked] == pytest.approx(expected)
    assert rank_bm25(["nothing known"], passages) == [[]]
