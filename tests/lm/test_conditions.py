"""Conditions over metrics: what they accept, compare and refuse."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.schemas.metrics import Item
from lm.metrics.conditions import (
    CHAMPION,
    NOT_WORSE,
    PREVIOUS,
    Condition,
    ConditionError,
    Measurements,
    parse_condition,
)

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
    verdict = parse_condition(text).check(
        Measurements(METRICS), {PREVIOUS: Measurements({"bits_per_byte": 1.9})}
    )
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
        "2 <= a",
        "a not",
        "a not better",
        "a not worse champion",
        "a none 3",
        "a <= 2 ** 3",
        "a <= * 2",
    ],
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(ConditionError):
        parse_condition(text)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("bits_per_byte == 2", 15),
        ("bits_per_byte <= champion * x", 29),
        ("bits_per_byte not better", 19),
        ("bits_per_byte <=", 17),
        ("bits_per_byte <= 2 3", 20),
    ],
)
def test_the_column_of_the_first_wrong_word_is_named(text: str, column: int) -> None:
    with pytest.raises(ConditionError, match=rf"column {column}:"):
        parse_condition(text)


@pytest.mark.parametrize("text", ["loss < 2", "bits_per_byte < loss", "by_source.docs < 2"])
def test_an_unknown_metric_is_refused(text: str) -> None:
    with pytest.raises(ConditionError):
        parse_condition(text).check(Measurements(METRICS), {})


def test_the_first_model_is_not_compared_with_a_previous_one() -> None:
    verdict = parse_condition("bits_per_byte <= previous").check(
        Measurements(METRICS), {PREVIOUS: None}
    )
    assert verdict.passed
    assert verdict.limit is None


def test_a_metric_that_is_nan_passes_no_condition() -> None:
    for text in ("bits_per_byte <= 2", "bits_per_byte > 2"):
        assert not parse_condition(text).check(Measurements({"bits_per_byte": math.nan}), {}).passed


@given(st.sampled_from(["<=", ">=", "<", ">"]), st.floats(0.01, 100), st.floats(0.01, 100))
def test_a_condition_is_read_as_it_is_written(operator: str, value: float, factor: float) -> None:
    condition = parse_condition(f"  m {operator}{value!r}* {factor!r} ")
    assert condition == Condition(
        f"m {operator}{value!r}* {factor!r}", "m", operator, value, factor
    )


def test_none_is_at_most_zero_and_not_worse_compares_with_the_champion() -> None:
    assert parse_condition("removal.debts none") == Condition(
        "removal.debts none", "removal.debts", "<=", 0.0
    )
    condition = parse_condition("suite.cloze.accuracy  not worse")
    assert (condition.operator, condition.other) == (NOT_WORSE, CHAMPION)
    passed = [
        parse_condition("d none").check(Measurements({"d": value}), {}).passed for value in (0, 1)
    ]
    assert passed == [True, False]


def measured(*values: float, metric: str = "accuracy", higher: bool = True) -> Measurements:
    """A model with a value per item, all of the same weight."""
    items = [Item(str(n), str(n), value, 1.0) for n, value in enumerate(values)]
    mean = sum(values) / len(values)
    return Measurements({metric: mean}, {metric: items}, {metric: higher})


def test_models_are_compared_over_the_items_that_both_have() -> None:
    ours, theirs = measured(1.0, 0.0, 1.0, 1.0), measured(1.0, 1.0)
    verdict = parse_condition("accuracy >= champion * 0.9").check(ours, {CHAMPION: theirs})
    assert (verdict.value, verdict.limit, verdict.n) == (0.5, 0.9, 2)
    assert not verdict.passed
    assert "2 of 4" in verdict.note


def test_weights_decide_the_mean_over_items() -> None:
    items = [Item("a", "a", 1.0, 3.0), Item("b", "b", 3.0, 1.0)]
    ours = Measurements({"bits_per_byte": 1.5}, {"bits_per_byte": items})
    verdict = parse_condition("bits_per_byte < champion").check(ours, {CHAMPION: ours})
    assert verdict.value == verdict.limit == 1.5


@pytest.mark.parametrize(("gap", "passed"), [(0.3, False), (0.0, True), (-0.3, True)])
def test_not_worse_fails_only_if_the_whole_interval_is_on_the_worse_side(
    gap: float, passed: bool
) -> None:
    champion = [0.5 + 0.4 * math.sin(n) for n in range(200)]
    worse = [value - gap + 0.05 * math.cos(7 * n) for n, value in enumerate(champion)]
    up = parse_condition("accuracy not worse")
    assert up.check(measured(*worse), {CHAMPION: measured(*champion)}).passed is passed
    down = parse_condition("accuracy not worse").check(
        measured(*(-value for value in worse), higher=False),
        {CHAMPION: measured(*(-value for value in champion), higher=False)},
    )
    assert down.passed is passed


def test_a_comparison_without_items_in_common_is_refused() -> None:
    condition = parse_condition("accuracy not worse")
    plain = Measurements({"accuracy": 0.5}, {}, {"accuracy": True})
    others = measured(0.5, 0.5)
    apart = Measurements(
        {"accuracy": 0.5}, {"accuracy": [Item("x", "x", 0.5, 1.0)]}, {"accuracy": True}
    )
    for model, champion in ((plain, others), (others, plain), (others, apart), (plain, plain)):
        with pytest.raises(ConditionError):
            condition.check(model, {CHAMPION: champion})
    with pytest.raises(ConditionError):
        parse_condition("accuracy >= champion").check(plain, {CHAMPION: others})
    assert parse_condition("accuracy >= champion").check(plain, {CHAMPION: plain}).passed
