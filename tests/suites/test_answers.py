"""Answers that are found in generated texts, and compared without what does not matter."""

from typing import Any

import pytest
from pydantic import ValidationError

from tasks.suites.answers import find_answer, is_accepted
from tasks.suites.config import AnswerConfig, SuiteConfig


def config(**values: Any) -> AnswerConfig:
    return AnswerConfig.model_validate(values)


@pytest.mark.parametrize(
    ("text", "values", "answer"),
    [
        (" Paris \n", {}, " Paris \n"),
        (" Paris \n", {"strip": True}, "Paris"),
        ("2 and 3 are 5", {"pattern": r"\d"}, "2"),
        ("2 and 3 are 5", {"pattern": r"\d", "match": -1}, "5"),
        ("2 and 3", {"pattern": r"\d", "match": 2}, "[invalid]"),
        ("none", {"pattern": r"\d", "match": -1, "without_match": ""}, ""),
        ("is (B).", {"pattern": r"\((A)\)|\((B)\)"}, "B"),
        ("()", {"pattern": r"\((A?)(B?)\)"}, "[invalid]"),
        ("x =  7 ", {"pattern": r"= (.*)"}, "7"),
        ("  7", {"pattern": r"^\d", "strip": True}, "7"),
        ("  7", {"pattern": r"^\d"}, "[invalid]"),
    ],
)
def test_an_answer_is_found_in_a_text(text: str, values: dict[str, Any], answer: str) -> None:
    assert find_answer(text, config(**values)) == answer


def test_what_is_ignored_is_ignored_on_both_sides() -> None:
    assert not is_accepted("the Miller!", ["a miller", "The miller"], config())
    assert is_accepted(
        "the Miller!", ["a", "The miller"], config(ignore_case=True, ignore_punctuation=True)
    )
    assert is_accepted(
        "$1,000", ["so\n#### 1000"], config(ignore_patterns=[",", r"\$", "(?s).*#### "])
    )
    assert is_accepted("b2", ["b"], config(ignore_numbers=True))
    assert not is_accepted("b2", ["b"], config(ignore_case=True))


def test_a_pattern_that_is_none_is_refused_with_its_text() -> None:
    with pytest.raises(ValidationError, match=r"'\(' is no regular expression"):
        config(pattern="(")
    value = {"name": "s", "items": "s.jsonl", "license": "CC0-1.0", "source": "made up"}
    with pytest.raises(ValidationError, match="items of the type cloze have no use for it"):
        SuiteConfig.model_validate({**value, "type": "cloze", "answer": {"strip": True}})
