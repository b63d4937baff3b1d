"""Conditions over the metrics of a model, such as ``bits_per_byte <= previous * 1.005``."""

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.errors import UserError

OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
PREVIOUS = "previous"
_CONDITION = re.compile(
    r"\s*(?P<metric>[^\s<>=*]+)\s*(?P<operator><=|>=|<|>)\s*(?P<reference>[^\s<>=*]+)"
    r"(?:\s*\*\s*(?P<factor>[^\s<>=*]+))?\s*"
)


class ConditionError(UserError):
    """A condition that cannot be read, or names a metric that the model does not have."""


@dataclass(frozen=True)
class Verdict:
    """How a condition turned out for one model.

    Attributes:
        condition: the text of the condition.
        value: of the model's metric.
        limit: what the metric was compared with; ``None`` if there is no previous model.
        passed: whether the condition holds; without a previous model it does.
    """

    condition: str
    value: float
    limit: float | None
    passed: bool


@dataclass(frozen=True)
class Condition:
    """``METRIC OPERATOR REFERENCE [* FACTOR]``.

    Attributes:
        text: as it was written.
        metric: path of a metric in the evaluation's result, such as ``bits_per_byte`` or
            ``by_language.en.bits_per_byte``.
        operator: one of ``<=``, ``>=``, ``<``, ``>``.
        reference: a number, ``previous`` for the same metric of the model of this name before it
            was trained again, or the path of another metric of the same model.
        factor: the reference is multiplied by it.
    """

    text: str
    metric: str
    operator: str
    reference: float | str
    factor: float = 1.0

    def check(self, metrics: Mapping[str, Any], previous: Mapping[str, Any] | None) -> Verdict:
        """Compare a model's metrics with the reference.

        Args:
            metrics: of the model, nested as the evaluation writes them.
            previous: those of the model before it; ``None`` if there is none.

        Raises:
            ConditionError: if the model has no such metric.
        """
        value = self._find(metrics, self.metric)
        if self.reference == PREVIOUS and previous is None:
            return Verdict(self.text, value, None, passed=True)
        if isinstance(self.reference, float):
            reference = self.reference
        elif self.reference == PREVIOUS:
            reference = self._find(previous or {}, self.metric)
        else:
            reference = self._find(metrics, self.reference)
        limit = reference * self.factor
        passed = OPERATORS[self.operator](value, limit)  # never true of NaN
        return Verdict(self.text, value, limit, passed)

    def _find(self, metrics: Mapping[str, Any], path: str) -> float:
        value = _lookup(metrics, path)
        if value is None:
            known = sorted(name for name, item in metrics.items() if isinstance(item, int | float))
            raise ConditionError(
                f"{self.text!r}: the evaluation has no metric {path!r}; it has "
                f"{', '.join(known) or 'none'}, and others inside its groups"
            )
        return value


def parse_condition(text: str) -> Condition:
    """Parse a condition.

    Raises:
        ConditionError: if it is not one.
    """
    match = _CONDITION.fullmatch(text)
    factor = 1.0
    if match is not None and match["factor"] is not None:
        factor = _parse_number(match["factor"]) or 0.0
    if match is None or not factor > 0:
        raise ConditionError(
            f"{text!r} is not a condition; write METRIC OPERATOR VALUE, for example "
            "'bits_per_byte <= 2.1' or 'bits_per_byte <= previous * 1.005'"
        )
    reference = _parse_number(match["reference"])
    return Condition(
        text=" ".join(text.split()),
        metric=match["metric"],
        operator=match["operator"],
        reference=match["reference"] if reference is None else reference,
        factor=factor,
    )


def _parse_number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _lookup(metrics: Mapping[str, Any], path: str) -> float | None:
    """Find a number by its path; names of sources in it may contain dots themselves."""
    value = metrics.get(path)
    if isinstance(value, int | float):
        return float(value)
    for name, inner in metrics.items():
        if isinstance(inner, Mapping) and path.startswith(f"{name}."):
            found = _lookup(inner, path[len(name) + 1 :])
            if found is not None:
                return found
    return None
