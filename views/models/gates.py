"""Check the gates of a recipe on a model, and keep the evidence."""

from collections.abc import Sequence

from infra.registry.versions import Evidence
from lm.metrics.conditions import CHAMPION, Condition, ConditionError, Measurements


def check_gates(
    gates: Sequence[Condition],
    model: Measurements,
    champion: Measurements | None,
    champion_version: int | None,
) -> list[Evidence]:
    """Check every gate; one whose metric is missing, of the model or of the champion, has failed.

    Args:
        gates: the conditions.
        model: what is known of the model.
        champion: what is known of the champion; ``None`` if there is none.
        champion_version: its number.
    """
    return [_check(gate, model, champion, champion_version) for gate in gates]


def _check(
    gate: Condition,
    model: Measurements,
    champion: Measurements | None,
    champion_version: int | None,
) -> Evidence:
    compared = champion_version if gate.other == CHAMPION else None
    try:
        verdict = gate.check(model, {CHAMPION: champion})
    except ConditionError as error:
        note = str(error).removeprefix(f"{gate.text!r}: ")
        return Evidence(gate.text, passed=False, champion=compared, note=note)
    return Evidence(
        gate=gate.text,
        passed=verdict.passed,
        value=verdict.value,
        limit=verdict.limit,
        low=verdict.low,
        high=verdict.high,
        n=verdict.n,
        champion=compared,
        note=verdict.note,
    )


def describe_failures(failed: Sequence[Evidence]) -> str:
    """Say in a line which gates failed, and by how much."""
    parts = []
    for item in failed:
        if item.value is None or item.limit is None:
            parts.append(f"{item.gate} ({item.note})")
        else:
            parts.append(f"{item.gate} (it is {item.value:.4g}, the limit {item.limit:.4g})")
    return "; ".join(parts)
