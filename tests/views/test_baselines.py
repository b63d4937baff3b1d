"""What is said of a fine-tuned model beside the systems that it was tested beside."""

from typing import Any

from views.models.baselines import compare_systems
from views.publish.card import describe_use
from views.publish.other_systems import describe_test, describe_verdict


def scores(
    tests: dict[str, tuple[float | None, float | None] | None], metric: str = "f1"
) -> dict[str, Any]:
    """Statistics of `score`: by system the difference and its p-value."""
    value = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 90}
    return {
        "main_metric": metric,
        "n": 90,
        "systems": {name: {metric: value} for name in ("model", *tests)},
        "differences": {
            name: {metric: {"value": test[0], "low": None, "high": None, "p_value": test[1]}}
            for name, test in tests.items()
            if test is not None
        },
    }


def test_a_system_whose_difference_is_undefined_is_not_beaten() -> None:
    verdict = compare_systems(
        scores({"a": (0.2, 1e-9), "b": (None, None), "c": (0.2, None), "d": None})
    )
    assert verdict.systems("better") == ["a"]
    assert verdict.systems("cannot be told") == ["b", "c", "d"]
    assert not verdict.beats_all
    assert describe_verdict(verdict).startswith(
        "It is better than a; no different, as far as these examples tell, from b, c, d ("
    )
    nothing = compare_systems(scores({"b": (None, None), "d": None}))
    assert describe_verdict(nothing) == "No difference is defined, so nothing can be said."


def test_each_answer_is_said_of_its_systems() -> None:
    tests = {"up": (0.2, 0.001), "down": (-0.2, 0.001), "same": (0.01, 0.9)}
    text = "It is better than up; no different, as far as these examples tell, from same; **worse than** down ("
    assert describe_verdict(compare_systems(scores({**tests}))).startswith(text)
    swapped = {"up": (-0.2, 0.001), "down": (0.2, 0.001), "same": (0.01, 0.9)}
    assert text in describe_test("mine", scores({**swapped}, "perplexity"))[-1]
    assert describe_verdict(compare_systems(scores({"up": (0.2, 0.001)}))).startswith(
        "It is better than each"
    )


def test_some_of_the_systems_are_judged_as_all_of_them_are() -> None:
    # 0.03 is significant by itself and beside one other test, but not beside two.
    tests = {"bow": (0.1, 0.03), "majority": (0.4, 0.04), "mine-scratch": (0.1, 0.02)}
    verdict = compare_systems(scores({**tests}))
    some = verdict.among(["bow", "majority"])
    assert dict(some.answers) == {"bow": "cannot be told", "majority": "cannot be told"}
    assert list(some.differences) == ["bow", "majority"]
    assert compare_systems(scores({"bow": (0.1, 0.03)})).beats_all


def test_a_card_says_of_chat_models_alone_that_they_answer() -> None:
    instructions = "not tuned to follow instructions"
    assert instructions in "".join(describe_use({"kind": "causal"}))
    assert instructions in "".join(describe_use({"kind": "causal", "task": "seq2seq"}))
    assert instructions not in "".join(describe_use({"kind": "causal", "task": "chat"}))
