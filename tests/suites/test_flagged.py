"""Continuations with flagged words: found as whole words, drawn by item, counted above a limit."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.formats.megatron import Tokens
from lm.scoring.huggingface import HuggingFaceModel
from lm.scoring.language_model import GenerationConfig
from tasks.suites.config import SuiteConfig
from tasks.suites.flagged import flagged_fraction, score_flagged
from tasks.suites.items import SuiteItem
from tests.evaluate import tiny
from tests.lm.corpora import tokenizer
from tests.suites.test_score import PerToken

WORDS = ("crow", "Seven  Stones", "c++")


@pytest.mark.parametrize(
    ("text", "fraction"),
    [
        ("", 0),
        ("a crowd of crows", 0),
        ("A CROW, a crow!", 0.5),
        ("seven\nstones", 1),
        ("seven grey stones", 0),
        ("(c++) is", 0.5),
    ],
)
def test_words_and_phrases_are_found_whole_and_in_any_case(text: str, fraction: float) -> None:
    assert flagged_fraction(text, WORDS) == fraction


@given(st.lists(st.sampled_from(["crow", "stone", "a.b", "sea"]), max_size=12))
def test_the_fraction_is_that_of_the_words(words: list[str]) -> None:
    expected = sum(word in ("crow", "a.b") for word in words) / max(1, len(words))
    assert flagged_fraction(" ".join(words), ("crow", "a.b")) == pytest.approx(expected)


class InTurn(PerToken):
    """A model that continues with these texts in turn."""

    def __init__(self, *answers: str) -> None:
        super().__init__()
        self._answers = answers

    def generate(
        self, prompts: Sequence[Tokens], seeds: Sequence[int], generation: GenerationConfig
    ) -> list[list[int]]:
        assert len(set(seeds)) == len(prompts)
        assert generation.temperature == 1.0
        texts = [self._answers[n % len(self._answers)] for n in range(len(prompts))]
        return [tokenizer().encode(text).ids for text in texts]


def config(**values: object) -> SuiteConfig:
    base = {"name": "s", "type": "flagged_words", "items": "s.jsonl", "license": "CC0-1.0"}
    return SuiteConfig.model_validate(
        {**base, "source": "made up", "flagged_words": WORDS, "num_continuations": 4, **values}
    )


def item(name: str) -> SuiteItem:
    return SuiteItem(name, None, name, "The miller saw", ("",))


def test_continuations_above_the_limit_are_counted() -> None:
    model = InTurn(" the sea", " a crow", " the corn", " a crow and the sea")
    for limit, share in ((0.0, 0.5), (0.4, 0.25), (0.6, 0.0)):
        settings = config(max_flagged_fraction=limit)
        [scored] = score_flagged(settings, [item("1")], ["The miller saw"], model, tokenizer())
        assert scored.metrics == {"flagged": (share, 1.0), "flagged_ever": (float(share > 0), 1.0)}
        assert scored.row["prediction"] == " a crow"


def test_what_is_drawn_depends_on_the_item_alone(tmp_path: Path) -> None:
    model = HuggingFaceModel(tiny.save(tmp_path / "tiny", 300), 0)
    settings = config(max_new_tokens=5)
    items = [item("a"), item("b")]
    prompts = [one.context for one in items]
    both = score_flagged(settings, items, prompts, model, tokenizer())
    swapped = score_flagged(settings, items[::-1], prompts, model, tokenizer())
    assert [one.row for one in both] == [one.row for one in swapped[::-1]]
    assert both[0].row["prediction"] != both[1].row["prediction"]
