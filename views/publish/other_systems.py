"""What a card says of a fine-tuned model's test: the systems beside it, and whether it is better."""

from collections.abc import Mapping
from typing import Any

from infra.schemas.examples import MODEL
from views.models.baselines import Verdict, compare_systems


def describe_test(name: str, scores: Mapping[str, Any]) -> list[str]:
    """Return the lines of Markdown about a test.

    Args:
        name: of the model.
        scores: statistics of the stage `score`.
    """
    main, systems = str(scores["main_metric"]), scores["systems"]
    others = [key for key in systems if key != MODEL]
    if not others:
        return [f"The task has no baselines, and no model was compared ({scores['n']:,} examples)."]
    rows = [
        [
            f"**{name}**" if key == MODEL else key,
            *_value(systems[key].get(main)),
            *_difference(scores["differences"].get(key, {}).get(main)),
        ]
        for key in (MODEL, *others)
    ]
    return [
        (
            f"On the same {scores['n']:,} test examples, by `{main}`; the difference is this model minus the system, with "
            "the p-value of a paired bootstrap. A name that ends in `-scratch` is the same architecture, trained on "
            "the same examples from random weights."
        ),
        "",
        f"| system | {main} | 95 % interval | difference | 95 % interval | p |",
        "| --- | --- | --- | --- | --- | --- |",
        *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows),
        "",
        describe_verdict(compare_systems(scores)),
    ]


def describe_verdict(verdict: Verdict) -> str:
    """Say in a sentence or two which systems a model is better than."""
    if not any(item is not None for item in verdict.differences.values()):
        return "No difference is defined, so nothing can be said."
    if verdict.beats_all:
        return "It is better than each of them, p-values corrected for their number (Holm)."
    parts = [
        f"{text} {', '.join(names)}"
        for text, names in (
            ("better than", verdict.systems("better")),
            (
                "no different, as far as these examples tell, from",
                verdict.systems("cannot be told"),
            ),
            ("**worse than**", verdict.systems("worse")),
        )
        if names
    ]
    return f"It is {'; '.join(parts)} (p-values corrected for their number, Holm)."


def _value(metric: Mapping[str, Any] | None) -> list[str]:
    if metric is None or metric["value"] is None:
        return ["–", ""]
    return [f"{metric['value']:.4g}", _interval(metric)]


def _difference(test: Mapping[str, Any] | None) -> list[str]:
    if test is None or test["value"] is None:
        return ["", "", ""]
    p_value = "" if test["p_value"] is None else f"{test['p_value']:.3f}"
    return [f"{test['value']:+.4g}", _interval(test), p_value]


def _interval(metric: Mapping[str, Any]) -> str:
    return "" if metric["low"] is None else f"{metric['low']:.4g} to {metric['high']:.4g}"
