"""Metrics equal to the libraries called directly, and intervals that contain the truth as often as they should."""

import itertools
import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from scipy.stats import binomtest
from seqeval.metrics import accuracy_score as word_accuracy
from seqeval.metrics import classification_report as span_report
from sklearn import metrics as sklearn

from infra.schemas.examples import EXAMPLES
from infra.statistics.bootstrap import (
    RESAMPLES,
    ExampleStats,
    compare,
    estimate,
    mcnemar,
    mean_of,
)
from lm.scoring.answers import qa_stats
from lm.scoring.generated_text import signatures, summarization_stats, translation_stats
from tasks.finetune.metrics.classification import classification_stats
from tasks.finetune.metrics.compute import (
    Predictions,
    compute_metrics,
    describe_predictions,
    main_metric,
    paired_test,
)
from tasks.finetune.metrics.likelihood import likelihood_stats
from tasks.finetune.metrics.retrieval import make_retrieval_test, retrieval_stats
from tasks.finetune.metrics.tagging import tagging_stats

LABELS = ("ham", "maybe", "spam")
WORDS = "the cat sat on a mat near the river bank and saw him go".split()


def value(metric: ExampleStats) -> float:
    return float(metric.compute(metric.stats.sum(axis=0)))


def labels(rng: random.Random, n: int) -> list[list[str]]:
    return [[rng.choice(LABELS)] for _ in range(n)]


def noisy(rng: random.Random, gold: list[list[str]]) -> list[list[str]]:
    return [row if rng.random() < 0.6 else [rng.choice(LABELS)] for row in gold]


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (20, 20), (13, 20), (1, 1)])
def test_rates_have_the_interval_of_wilson(hits: int, n: int) -> None:
    values = np.array([1.0] * hits + [0.0] * (n - hits))
    own = estimate({"rate": mean_of(values)}, 1)["rate"]
    expected = binomtest(hits, n).proportion_ci(0.95, "wilson")
    assert (own.low, own.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_main_metric_is_one_that_was_computed() -> None:
    for tags, name in ((["B-X", "O"], "f1"), (["NOUN", "VERB"], "f1_macro")):
        rows = [{"words": ["a", "b"], "tags": tags, "predicate": None}]
        test = pa.Table.from_pylist(rows, EXAMPLES["tagging"])
        metrics = compute_metrics("tagging", test, Predictions([tags]), (), 1)
        assert main_metric("tagging", metrics) == name
        assert name in metrics


@pytest.mark.parametrize("n", [7, 400])
def test_classification_is_as_in_scikit_learn(n: int) -> None:
    rng = random.Random(n)
    gold = labels(rng, n)
    guess = noisy(rng, gold)
    y, z = [row[0] for row in gold], [row[0] for row in guess]
    stats = classification_stats(gold, guess, (*LABELS, "absent"))
    assert value(stats["accuracy"]) == pytest.approx(sklearn.accuracy_score(y, z))
    assert value(stats["matthews"]) == pytest.approx(sklearn.matthews_corrcoef(y, z))
    for average in ("micro", "macro"):
        expected = sklearn.precision_recall_fscore_support(y, z, average=average, zero_division=0)
        for name, number in zip(("precision", "recall", "f1"), expected, strict=False):
            assert value(stats[f"{name}_{average}"]) == pytest.approx(number)
    each = sklearn.precision_recall_fscore_support(y, z, labels=LABELS, zero_division=0)
    for name, numbers in zip(("precision", "recall", "f1"), each, strict=False):
        for label, number in zip(LABELS, numbers, strict=True):
            assert value(stats[f"{name}/{label}"]) == pytest.approx(number)


def test_several_labels_are_as_in_scikit_learn() -> None:
    rng = random.Random(5)
    sides = [[[name for name in LABELS if rng.random() < 0.4] for _ in range(200)] for _ in "ab"]
    matrices = [np.array([[name in row for name in LABELS] for row in side], int) for side in sides]
    stats = classification_stats(sides[0], sides[1], LABELS)
    assert value(stats["accuracy"]) == pytest.approx(sklearn.accuracy_score(*matrices))
    for average in ("micro", "macro"):
        assert value(stats[f"f1_{average}"]) == pytest.approx(
            sklearn.f1_score(*matrices, average=average)
        )
    assert "matthews" not in stats


def test_the_calibration_error_is_that_of_its_definition() -> None:
    scores = np.array([[0.9, 0.05, 0.05], [0.9, 0.1, 0.0], [0.2, 0.5, 0.3], [0.0, 0.0, 1.0]])
    gold = [["ham"], ["spam"], ["maybe"], ["spam"]]
    guess = [["ham"], ["ham"], ["maybe"], ["spam"]]
    stats = classification_stats(gold, guess, LABELS, scores)
    # Two of confidence 0.9, one right; one of 0.5, right; one of 1.0, right.
    expected = (abs(1 - 1.8) + abs(1 - 0.5) + 0) / 4
    assert value(stats["calibration_error"]) == pytest.approx(expected)


def test_curves_and_the_confusion_matrix_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    scores = rng.dirichlet(np.ones(3), 300)
    gold = [[LABELS[i]] for i in (scores + rng.normal(0, 0.3, scores.shape)).argmax(axis=1)]
    guess = [[LABELS[i]] for i in scores.argmax(axis=1)]
    test = pa.Table.from_pylist(
        [{"text": "x", "labels": row} for row in gold], schema=EXAMPLES["classification"]
    )
    shown = describe_predictions("classification", test, Predictions(guess, scores), LABELS)
    y, z = [row[0] for row in gold], [row[0] for row in guess]
    assert shown["confusion"] == sklearn.confusion_matrix(y, z, labels=LABELS).tolist()
    assert sum(b["n"] for b in shown["calibration"]) == 300
    curve = shown["curves"]["spam"]
    truth = np.array([label == "spam" for label in y])
    assert curve["roc_auc"] == pytest.approx(sklearn.roc_auc_score(truth, scores[:, 2]))
    assert curve["positives"] == truth.sum()
    assert curve["roc"][0] == [0, 0]
    assert curve["roc"][-1] == [1, 1]
    assert len(curve["precision_recall"]) <= 200


def tag_sequences(rng: random.Random, n: int) -> list[list[str]]:
    tags = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    return [[rng.choice(tags) for _ in range(rng.randint(1, 12))] for _ in range(n)]


def test_spans_are_as_in_seqeval() -> None:
    rng = random.Random(11)
    gold = tag_sequences(rng, 120)
    guess = [[tag if rng.random() < 0.7 else "O" for tag in row] for row in gold]
    stats = tagging_stats(gold, guess)
    report = span_report(gold, guess, output_dict=True, zero_division=0)
    for name, key in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
        assert value(stats[name]) == pytest.approx(report["micro avg"][key])
        assert value(stats[f"{name}_macro"]) == pytest.approx(report["macro avg"][key])
    for kind in ("PER", "LOC"):
        assert value(stats[f"f1/{kind}"]) == pytest.approx(report[kind]["f1-score"])
    assert value(stats["accuracy"]) == pytest.approx(word_accuracy(gold, guess))


def test_the_predicate_itself_is_no_role_that_counts() -> None:
    gold = [["B-A0", "B-V", "B-A1"]]
    stats = tagging_stats(gold, [["O", "B-V", "B-A1"]], roles=True)
    assert "f1/V" not in stats
    assert value(stats["recall"]) == pytest.approx(0.5)


def test_tags_that_are_no_spans_are_counted_by_word() -> None:
    gold = [["DET", "NOUN", "VERB"], ["NOUN"]]
    guess = [["DET", "VERB", "VERB"], ["NOUN"]]
    stats = tagging_stats(gold, guess)
    flat = [list(itertools.chain(*side)) for side in (gold, guess)]
    assert value(stats["f1_macro"]) == pytest.approx(sklearn.f1_score(*flat, average="macro"))
    assert "f1" not in stats


@pytest.mark.parametrize(
    ("answers", "guess", "exact", "f1"),
    [
        (["the Cat."], "cat", 1, 1),
        (["in Paris", "Paris"], "Paris", 1, 1),
        (["the red house"], "red car", 0, 0.5),
        ([], "", 1, 1),
        ([], "something", 0, 0),
        (["an"], "", 1, 1),  # nothing is left of it, as in the official script
    ],
)
def test_answers_are_compared_as_squad_does(
    answers: list[str], guess: str, exact: float, f1: float
) -> None:
    stats = qa_stats([answers], [guess])
    assert value(stats["exact_match"]) == exact
    assert value(stats["f1"]) == pytest.approx(f1)


def test_questions_with_and_without_an_answer_are_also_counted_apart() -> None:
    stats = qa_stats([["a dog"], [], []], ["dog", "", "x"])
    assert value(stats["f1_answerable"]) == 1
    assert value(stats["no_answer_accuracy"]) == 0.5


def sentences(rng: random.Random, n: int) -> list[str]:
    return [" ".join(rng.choices(WORDS, k=rng.randint(0, 12))) + "." for _ in range(n)]


@pytest.mark.parametrize("n", [1, 2, 60])
def test_bleu_and_chrf_are_those_of_sacrebleu(n: int) -> None:
    for seed in range(8):
        rng = random.Random(seed)
        gold = sentences(rng, n)
        guess = [row if rng.random() < 0.3 else " ".join(rng.choices(WORDS, k=6)) for row in gold]
        stats = translation_stats(gold, guess)
        assert value(stats["bleu"]) == pytest.approx(BLEU().corpus_score(guess, [gold]).score)
        assert value(stats["chrf"]) == pytest.approx(CHRF().corpus_score(guess, [gold]).score)


def test_empty_output_has_no_score() -> None:
    stats = translation_stats(["a cat"], [""])
    assert value(stats["bleu"]) == 0
    assert value(stats["chrf"]) == 0
    assert "tok:13a" in signatures()["bleu"]


def test_rouge_is_that_of_rouge_score() -> None:
    rng = random.Random(2)
    gold = [*sentences(rng, 40), "Ünïcode and-hyphens, 3.5!", ""]
    guess = [*sentences(rng, 40), "unicode hyphens 3", "a"]
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    stats = summarization_stats(gold, guess)
    pairs = [scorer.score(right, mine) for right, mine in zip(gold, guess, strict=True)]
    for name in ("rouge1", "rouge2", "rougeL"):
        expected = [pair[name].fmeasure for pair in pairs]
        assert stats[name].stats[:, 0] == pytest.approx(expected)


def test_rankings_are_measured_as_scikit_learn_does() -> None:
    rng = np.random.default_rng(4)
    scores = rng.random((30, 20))
    relevant = [frozenset(rng.choice(20, rng.integers(1, 3), replace=False)) for _ in range(30)]
    ranked = np.argsort(-scores, axis=1).tolist()
    stats = retrieval_stats(relevant, ranked)
    truth = np.array([[i in right for i in range(20)] for right in relevant], int)
    assert value(stats["ndcg@10"]) == pytest.approx(sklearn.ndcg_score(truth, scores, k=10))
    # With one right passage each, the mean of reciprocal ranks is the label ranking precision.
    first = [frozenset([min(right)]) for right in relevant]
    one = np.array([[i in right for i in range(20)] for right in first], int)
    mrr = value(retrieval_stats(first, ranked)["mrr"])
    assert mrr == pytest.approx(sklearn.label_ranking_average_precision_score(one, scores))
    assert value(retrieval_stats([{3}], [[5, 1]])["mrr"]) == 0


def test_equal_queries_and_passages_are_one() -> None:
    rows = [
        {"query": "q", "positive": "a", "negatives": ["n", "b"]},
        {"query": "q", "positive": "b", "negatives": []},
        {"query": "r", "positive": "a", "negatives": []},
    ]
    test = make_retrieval_test(pa.Table.from_pylist(rows, schema=EXAMPLES["embedding"]))
    assert test.queries == ["q", "r"]
    assert test.passages == ["a", "b", "n"]
    assert test.relevant == [{0, 1}, {0}]


def test_perplexity_is_per_token_and_bits_per_byte() -> None:
    stats = likelihood_stats([2.0, 4.0], [1, 2], [3, 5])
    assert value(stats["perplexity"]) == pytest.approx(np.exp(2))
    assert value(stats["bits_per_byte"]) == pytest.approx(6 / np.log(2) / 8)


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    rng = np.random.default_rng(0)
    hits = (rng.random(2000) < 0.3).astype(float)
    found = estimate({"accuracy": mean_of(hits)}, 1)["accuracy"]
    half = 1.96 * np.sqrt(hits.mean() * (1 - hits.mean()) / 2000)
    assert found.n == 2000
    assert found.value == pytest.approx(hits.mean())
    assert found.low == pytest.approx(hits.mean() - half, abs=0.004)
    assert found.high == pytest.approx(hits.mean() + half, abs=0.004)


def test_intervals_are_a_function_of_the_seed_alone() -> None:
    hits = np.arange(50) % 3 == 0
    first, again, other = (
        estimate({"a": mean_of(hits.astype(float))}, seed)["a"] for seed in (1, 1, 2)
    )
    assert first == again
    assert first.value == other.value
    assert estimate({"a": mean_of(np.arange(50.0))}, 1) != estimate(
        {"a": mean_of(np.arange(50.0))}, 2
    )


def test_a_metric_without_examples_has_no_value() -> None:
    found = estimate({"a": mean_of(np.zeros(0))}, 1)["a"]
    assert (found.value, found.low, found.high, found.n) == (None, None, None, 0)


def test_a_paired_test_sees_a_difference_that_intervals_hide() -> None:
    rng = np.random.default_rng(1)
    hard = (rng.random(600) < 0.5).astype(float)  # both systems fail on the same examples
    better = hard.copy()
    better[np.flatnonzero(hard == 0)[:20]] = 1
    a, b = ({"accuracy": mean_of(hits)} for hits in (better, hard))
    assert estimate(a, 1)["accuracy"].low < estimate(b, 1)["accuracy"].high  # type: ignore[operator]
    found = compare(a, b, 1)["accuracy"]
    assert found.value == pytest.approx(20 / 600)
    assert found.low is not None
    assert found.low > 0
    assert found.p_value == pytest.approx(1 / (RESAMPLES + 1))
    same = compare(a, a, 1)["accuracy"]
    assert (same.value, same.p_value) == (0, 1)


def test_mcnemar_is_the_binomial_test_of_discordant_pairs() -> None:
    a = np.array([1, 1, 1, 1, 1, 0, 0, 1])
    b = np.array([0, 0, 0, 0, 1, 0, 1, 0])
    found = mcnemar(a, b)
    assert (found["only_a"], found["only_b"]) == (5, 1)
    assert found["p_value"] == pytest.approx(binomtest(5, 6).pvalue)
    assert mcnemar(a, a)["p_value"] == 1


EXAMPLE: dict[str, tuple[list[dict[str, Any]], list[Any]]] = {
    "classification": ([{"text": "x", "labels": ["ham"]}, {"text": "y", "labels": ["spam"]}], [["ham"], ["ham"]]),
    "tagging": ([{"words": ["a"], "tags": ["B-X"]}, {"words": ["b"], "tags": ["O"]}], [["B-X"], ["B-X"]]),
    "qa": ([{"question": "q", "context": "c", "answers": [{"text": "c", "start": 0}]}] * 2, ["c", "d"]),
    "seq2seq": ([{"source": "s", "target": "a b c d"}] * 2, ["a b c d", "x"]),
    "chat": ([{"messages": [{"role": "assistant", "content": "x"}]}] * 2, [(1.0, 1, 1), (2.0, 1, 1)]),
    "completion": ([{"text": "x"}] * 2, [(1.0, 1, 1), (2.0, 1, 1)]),
    "embedding": ([{"query": "q", "positive": "p", "negatives": ["n"]}, {"query": "r", "positive": "n", "negatives": []}], [[0, 1], [0, 1]]),
}  # fmt: skip


@pytest.mark.parametrize("task", EXAMPLE)
def test_each_task_has_metrics_with_intervals_and_paired_tests(task: Any) -> None:
    rows, items = EXAMPLE[task]
    test = pa.Table.from_pylist(rows, schema=EXAMPLES[task])
    predictions = Predictions(items)
    found = compute_metrics(task, test, predictions, LABELS, 1)
    assert found
    for metric in found.values():
        assert metric["n"] == 2
        if metric["low"] is not None:
            assert metric["low"] <= metric["value"] <= metric["high"]
    differences = paired_test(task, test, predictions, predictions, LABELS, 1)
    differences.pop("mcnemar", None)
    assert {item["value"] for item in differences.values()} <= {0.0, None}
    with pytest.raises(ValueError):  # noqa: PT011
        compute_metrics(task, test, Predictions(items[:1]), LABELS, 1)
