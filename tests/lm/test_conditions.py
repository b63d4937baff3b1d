"""Conditions over metrics: what they accept, compare and refuse."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.metrics.conditions import Condition, ConditionError, parse_condition

METRICS = {
    "bits_per_byte": 2.0,
    "baselines": {"trigram": {"bits_per_byte": 2.5}},
    "by_source": {"docs.example.org": {"bits_per_byte": 1.5}, "docs": {"bytes": 7}},
}


@pytest.mark.parametrize(
    ("text", "passed", "limit"),
    [
        ("bits_per_byte <= 2", True, 2.0),
        ("bits_per_byte<2", False, 2.0),
        ("bits_per_byte >= 2e0", True, 2.0),
        ("bits_per_byte > 2.1", False, 2.1),
        ("bits_per_byte <= previous", False, 1.9),
        ("bits_per_byte <= previous * 1.1", True, 1.9 * 1.1),
        ("bits_per_byte < baselines.trigram.bits_per_byte * 0.9", True, 2.25),
        ("by_source.docs.example.org.bits_per_byte < 1", False, 1.0),
    ],
)
def test_a_condition_compares_a_metric_with_its_reference(
    text: str, passed: bool, limit: float
) -> None:
    verdict = parse_condition(text).check(METRICS, {"bits_per_byte": 1.9})
    assert verdict.passed is passed
    assert verdict.limit == pytest.approx(limit)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bits_per_byte",
        "bits_per_byte <= ",
        "<= 2",
        "a == 2",
        "a <= 2 * x",
        "a <= 2 * 0",
        "a < b < c",
    ],
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ConditionError):
        parse_condition(text)


@pytest.mark.parametrize("text", ["loss < 2", "bits_per_byte < loss", "by_source.docs < 2"])
def test_an_unknown_metric_is_refused(text: str) -> None:
    with pytest.raises(ConditionError):
        parse_condition(text).check(METRICS, None)


def test_the_first_model_is_not_compared_with_a_previous_one() -> None:
    verdict = parse_condition("bits_per_byte <= previous").check(METRICS, None)
    assert verdict.passed
    assert verdict.limit is None


def test_a_metric_that_is_nan_passes_no_condition() -> None:
    for text in ("bits_per_byte <= 2", "bits_per_byte > 2"):
        assert not parse_condition(text).check({"bits_per_byte": math.nan}, None).passed


@given(st.sampled_from(["<=", ">=", "<", ">"]), st.floats(0.01, 100), st.floats(0.01, 100))
def test_a_condition_is_read_as_it_is_written(operator: str, value: float, factor: float) -> None:
    condition = parse_condition(f"  m {operator}{value!r}* {factor!r} ")
    assert condition == Condition(
        f"m {operator}{value!r}* {factor!r}", "m", operator, value, factor
    )
