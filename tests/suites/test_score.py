"""Scores of items, with a model whose probabilities are known, and with real small ones."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from infra.formats.megatron import Tokens
from lm.scoring.huggingface import HuggingFaceModel
from lm.scoring.language_model import Continuation, GenerationConfig, Nats
from tasks.suites.config import SuiteConfig
from tasks.suites.items import SuiteItem
from tasks.suites.score import ScoredItem, encode_pair, score_items
from tests.evaluate import tiny
from tests.lm.corpora import tokenizer

EOS = 0


class PerToken:
    """A ``LanguageModel`` in which every token costs 2 nats, and that always continues with a text."""

    context_length = 64

    def __init__(self, answer: str = "") -> None:
        self._answer = answer

    def score_texts(self, documents: Sequence[Tokens]) -> list[Nats]:
        return [np.full(len(ids), 2.0) for ids in documents]

    def score_continuations(self, requests: Sequence[tuple[Tokens, Tokens]]) -> list[Continuation]:
        return [Continuation(2.0 * len(ids), len(ids), min(len(ids), 3)) for _, ids in requests]

    def generate(
        self, prompts: Sequence[Tokens], seeds: Sequence[int], generation: GenerationConfig
    ) -> list[list[int]]:
        assert generation.temperature == 0
        ids: list[int] = tokenizer().encode(self._answer).ids
        return [ids[: generation.max_new_tokens] for _ in prompts]


def config(**values: Any) -> SuiteConfig:
    value = {"name": "s", "items": "s.jsonl", "license": "CC0-1.0", "source": "made up", **values}
    return SuiteConfig.model_validate(value)


def item(*choices: str, gold: int = 0, context: str = "The miller ground") -> SuiteItem:
    return SuiteItem("1", None, "1", context, choices, gold)


def score(settings: SuiteConfig, one: SuiteItem, model: Any = None) -> ScoredItem:
    [result] = score_items(settings, [one], [one.context], model or PerToken(), tokenizer(), EOS)
    return result


def tokens(text: str) -> int:
    return len(tokenizer().encode(text).ids)


def test_of_several_choices_the_most_probable_one_is_chosen() -> None:
    long, short = " ".join(["seven stones"] * 4), "zqxj"
    result = score(config(type="multiple_choice"), item(short, long, gold=1))
    # The short one costs less, the long one less per byte.
    assert tokens(f" {short}") < tokens(f" {long}")
    assert result.metrics["accuracy"] == (0.0, 1.0)
    assert result.metrics["accuracy_norm"] == (1.0, 1.0)
    value, weight = result.metrics["bits_per_byte"]
    assert weight == len(long) + 1
    assert value == pytest.approx(2 * tokens(f" {long}") / math.log(2) / weight)
    assert result.row["prediction"] == short


def test_a_cloze_is_right_if_its_answer_is_the_greedy_one() -> None:
    settings = config(type="cloze")
    assert score(settings, item("the corn")).metrics["accuracy"] == (1.0, 1.0)
    assert score(settings, item("seven grey stones and zqxj")).metrics["accuracy"] == (0.0, 1.0)


def test_an_answer_ends_before_a_stop_text() -> None:
    settings = config(type="exact_match", max_new_tokens=60)
    model = PerToken("\n The Corn.\nAnd then more")
    result = score(settings, item("corn"), model)
    assert result.row["prediction"] == "The Corn."
    assert result.metrics["exact_match"] == (1.0, 1.0)
    assert "bits_per_byte" in result.metrics


def test_a_generated_text_is_measured_by_the_best_answer() -> None:
    names = ("exact_match", "f1", "rouge1", "rouge2", "rougeL", "sentence_bleu", "chrf")
    settings = config(type="generate", metrics=names, max_new_tokens=60)
    result = score(settings, item("nobody at all", "seven stones"), PerToken(" seven stones"))
    assert set(names) < set(result.metrics)
    assert all(result.metrics[name][0] in (1.0, 100.0) for name in names if name != "sentence_bleu")
    assert result.metrics["sentence_bleu"][0] == pytest.approx(100)


def test_a_text_is_scored_with_its_end() -> None:
    result = score(config(type="perplexity"), item("seven stones", context=""))
    value, weight = result.metrics["bits_per_byte"]
    assert value * weight * math.log(2) == pytest.approx(2 * (tokens("seven stones") + 1))


def test_of_a_pair_the_good_sentence_is_to_be_more_probable() -> None:
    pair = item("the corn", "the seven grey stones", context="")
    assert score(config(type="minimal_pairs"), pair).metrics == {"accuracy": (1.0, 1.0)}


def test_an_item_of_a_domain_counts_for_the_suite_and_for_the_domain() -> None:
    one = SuiteItem("7", "code", "file", "", ("x = 1",))
    rows = list(score(config(type="perplexity"), one).item_rows())
    assert [row["suite"] for row in rows] == ["s", "s.code"]
    assert {(row["item"], row["cluster"]) for row in rows} == {("7", "file")}


class Prefers(PerToken):
    """A model that gives a continuation 3 nats after a context that holds a token, and 1 after others."""

    def __init__(self, rare: int) -> None:
        super().__init__()
        self._rare = rare

    def score_continuations(self, requests: Sequence[tuple[Tokens, Tokens]]) -> list[Continuation]:
        return [
            Continuation(3.0 if self._rare in context else 1.0, len(ids), 0)
            for context, ids in requests
        ]


@pytest.mark.parametrize(("first", "second", "gap"), [("A", "B", -2), ("B", "A", 2), ("B", "B", 0)])
def test_the_gap_is_how_much_more_probable_a_text_is_after_the_first_context(
    first: str, second: str, gap: float
) -> None:
    [rare] = tokenizer().encode("A").ids
    one = SuiteItem("1", "group", "t", f"{first} crow", ("saw",), other_context=f"{second} crow")
    result = score(config(type="counterfactual_pairs"), one, Prefers(rare))
    assert result.metrics == {"gap": (gap, 1.0), "absolute_gap": (abs(gap), 1.0)}
    assert result.row["bytes"] == [len(" saw")] * 2
    assert result.row["prediction"] == (f"{first} crow" if gap >= 0 else f"{second} crow")


@pytest.mark.parametrize(
    ("context", "continuation"),
    [
        ("Das Kind", " vergaß"),
        ("Das Kind ", "vergaß"),
        ("", "A crow"),
        ("A cr", "ow counted"),
        ("x\n", "  y"),
    ],
)
def test_pairs_are_cut_as_in_lm_eval(context: str, continuation: str) -> None:
    """The lines of ``TemplateLM._encode_pair`` of lm-evaluation-harness 0.4.13."""
    encode: Tokenizer = tokenizer()
    ours = [ids.tolist() for ids in encode_pair(encode, context, continuation)]
    spaces = len(context) - len(context.rstrip())
    if spaces > 0:
        continuation = context[-spaces:] + continuation
        context = context[:-spaces]
    whole = encode.encode(context + continuation).ids
    cut = len(encode.encode(context).ids) if context else 0
    assert ours == [whole[:cut], whole[cut:]]


def test_a_long_prompt_is_truncated_at_its_beginning(tmp_path: Path) -> None:
    model = HuggingFaceModel(tiny.save(tmp_path / "tiny", 300), EOS)
    ids = np.random.default_rng(1).integers(1, 300, 60)
    prompt, continuation = ids[:50], ids[50:]
    kept = tiny.CONTEXT + 1 - len(continuation)
    [whole, part] = model.score_continuations(
        [(prompt, continuation), (prompt[-kept:], continuation)]
    )
    assert whole.nats == pytest.approx(part.nats, abs=1e-5)
    [shorter] = model.score_continuations([(prompt[-kept + 1 :], continuation)])
    assert abs(shorter.nats - part.nats) > 1e-3


def test_contexts_as_choices_are_compared_by_what_follows_them(tmp_path: Path) -> None:
    model = HuggingFaceModel(tiny.save(tmp_path / "tiny", 300), EOS)
    contexts = ("The crow", "The miller")
    for gold in (0, 1):
        one = SuiteItem("1", None, "1", "", (" ground",) * 2, gold, contexts=contexts)
        settings = config(type="multiple_choice", delimiter="")
        [result] = score_items(settings, [one], ["Then. "], model, tokenizer(), EOS)
        pairs = [encode_pair(tokenizer(), f"Then. {text}", " ground") for text in contexts]
        nats = [score.nats for score in model.score_continuations(pairs)]
        assert result.row["nats"] == nats
        assert nats[0] != nats[1]
        assert result.metrics["accuracy"][0] == float(nats[gold] < nats[1 - gold])
        assert result.row["gold"] == contexts[gold]


def test_a_choice_is_as_long_as_its_bytes_or_characters() -> None:
    # A token costs 2 nats here; the Greek letters have two bytes each.
    greek, latin = " αβγδ corn", " zqxjkvzqxjkv corn"
    nats = [2 * tokens(text) for text in (greek, latin)]
    assert nats[0] / len(greek.encode()) < nats[1] / len(latin.encode())
    assert nats[0] / len(greek) > nats[1] / len(latin)
    found = {}
    for unit in ("bytes", "characters"):
        settings = config(type="multiple_choice", delimiter="", normalize_by=unit)
        found[unit] = score(settings, item(greek, latin)).metrics["accuracy_norm"]
    assert found == {"bytes": (1.0, 1.0), "characters": (0.0, 1.0)}


def test_an_answer_that_is_found_by_a_pattern_is_compared_as_it_stands() -> None:
    """The text ends at the first stop, also one that it begins with."""
    settings = config(
        type="exact_match", stop=["."], answer={"pattern": r"\d+", "match": -1}, max_new_tokens=64
    )
    said = score(settings, item("12", "7"), PerToken("It is 3, no, 7. Or 8."))
    assert (said.metrics["exact_match"], said.row["prediction"]) == ((1.0, 1.0), "7")
    nothing = score(settings, item("7"), PerToken(". 7"))
    assert (nothing.metrics["exact_match"], nothing.row["prediction"]) == ((0.0, 1.0), "[invalid]")
