"""Conditions over the metrics of a model, such as ``bits_per_byte <= champion * 1.005``.

The gates of a recipe (``release.gates``) and those of a CI job (``gristmill models --require``) are written in
this one language.
"""

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infra.errors import UserError
from infra.schemas.metrics import SEED, Item, share_items
from infra.statistics.comparison import compare_paired

OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
NOT_WORSE = "not worse"
PREVIOUS, CHAMPION = "previous", "champion"
_TOKEN = re.compile(r"<=|>=|<|>|\*|[^\s<>=*]+|\S")
_WORD = re.compile(r"[^\s<>=*]+")
FORMS = (
    "write METRIC OPERATOR VALUE, METRIC not worse, or METRIC none, for example 'bits_per_byte <= 2.1' or "
    "'bits_per_byte <= champion * 1.005'"
)


class ConditionError(UserError):
    """A condition that cannot be read, or names a metric that the model does not have."""


@dataclass(frozen=True)
class Measurements:
    """What is known of one model.

    Attributes:
        metrics: numbers by name; they may be nested, as the evaluation writes them.
        items: by metric, if it is a mean over items: their values and weights.
        higher_is_better: by metric, if it is known.
    """

    metrics: Mapping[str, Any]
    items: Mapping[str, Sequence[Item]] = field(default_factory=dict)
    higher_is_better: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """How a condition turned out for one model.

    Attributes:
        condition: the text of the condition.
        value: of the model's metric.
        limit: what the metric was compared with; ``None`` if there is no other model to compare with.
        passed: whether the condition holds; without another model it does.
        low: lower end of the 95 % interval of the difference from the other model, over the same items.
        high: the upper end.
        n: number of items that both models were measured on, if they were compared by items.
        note: what a reader must know.
    """

    condition: str
    value: float
    limit: float | None
    passed: bool
    low: float | None = None
    high: float | None = None
    n: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Condition:
    """``METRIC OPERATOR REFERENCE [* FACTOR]``, ``METRIC not worse`` or ``METRIC none``.

    Attributes:
        text: as it was written.
        metric: path of a metric, such as ``bits_per_byte`` or ``by_language.en.bits_per_byte``.
        operator: ``<=``, ``>=``, ``<``, ``>``, or ``not worse``. ``none`` is ``<= 0``.
        reference: a number, ``previous`` or ``champion`` for the same metric of another model, or
            the path of another metric of the same model.
        factor: the reference is multiplied by it.
    """

    text: str
    metric: str
    operator: str
    reference: float | str
    factor: float = 1.0

    @property
    def other(self) -> str | None:
        """Which other model it compares with: ``previous``, ``champion`` or ``None``."""
        return str(self.reference) if self.reference in (PREVIOUS, CHAMPION) else None

    def check(self, model: Measurements, others: Mapping[str, Measurements | None]) -> Verdict:
        """Compare a model's metric with the reference.

        Two models are compared on the items that both were measured on, if the metric has items.

        Args:
            model: what is known of the model.
            others: the models that ``previous`` and ``champion`` stand for; ``None`` if there is none.

        Raises:
            ConditionError: if one of the models has no such metric, or they have no item in common.
        """
        value = self._find(model, self.metric)
        if self.other is None:
            limit = (
                self.reference
                if isinstance(self.reference, float)
                else self._find(model, self.reference)
            )
            limit *= self.factor
            return Verdict(self.text, value, limit, self._holds(value, limit))
        if self.other not in others:
            raise ConditionError(f"{self.text!r}: there is no {self.other} to compare with here")
        other = others[self.other]
        if other is None:
            note = f"no {self.other} yet: it holds by definition"
            return Verdict(self.text, value, None, passed=True, note=note)
        reference = self._find(other, self.metric)
        ours, theirs = model.items.get(self.metric), other.items.get(self.metric)
        if ours is None or theirs is None:
            # The champion's scores are kept, those of a previous model may have been deleted.
            uneven = self.other == CHAMPION and (ours is None) != (theirs is None)
            if self.operator == NOT_WORSE or uneven:
                raise ConditionError(
                    f"{self.text!r}: {self.metric} has no values per item of "
                    f"{'the model' if ours is None else f'the {self.other}'}, which a comparison needs"
                )
            limit = reference * self.factor
            return Verdict(self.text, value, limit, self._holds(value, limit))
        return self._compare_items(model, ours, theirs)

    def _holds(self, value: float, limit: float) -> bool:
        return OPERATORS[self.operator](value, limit)  # never true of NaN

    def _compare_items(
        self, model: Measurements, ours: Sequence[Item], theirs: Sequence[Item]
    ) -> Verdict:
        shared = share_items([ours, theirs])
        if shared is None:
            raise ConditionError(
                f"{self.text!r}: the model and the {self.other} have no item of {self.metric} in common"
            )
        (a, b), weights, clusters = shared
        n, total = len(weights), len({item.item for item in (*ours, *theirs)})
        note = "" if n == total else f"on the {n} of {total} items in common"
        value = float(np.average(a, weights=weights))
        limit = float(np.average(b, weights=weights)) * self.factor
        paired = compare_paired(a, b, weights, clusters, SEED)
        if self.operator != NOT_WORSE:
            passed = self._holds(value, limit)
        else:
            better = model.higher_is_better.get(self.metric)
            if better is None:
                raise ConditionError(
                    f"{self.text!r}: it is not known whether more of {self.metric} is better"
                )
            passed = paired.high >= 0 if better else paired.low <= 0
        return Verdict(self.text, value, limit, passed, paired.low, paired.high, n, note)

    def _find(self, model: Measurements, path: str) -> float:
        value = _lookup(model.metrics, path)
        if value is None:
            known = sorted(
                name for name, item in model.metrics.items() if isinstance(item, int | float)
            )
            groups = any(isinstance(item, Mapping) for item in model.metrics.values())
            raise ConditionError(
                f"{self.text!r}: the evaluation has no metric {path!r}; it has "
                f"{', '.join(known) or 'none'}"
                + (", and others inside its groups" if groups else "")
            )
        return value


def parse_condition(text: str) -> Condition:
    """Parse a condition.

    Raises:
        ConditionError: if it is not one; the message names the column of the first wrong word.
    """
    tokens = [(match.start() + 1, match.group()) for match in _TOKEN.finditer(text)]
    return _Parser(text, iter(tokens)).parse()


class _Parser:
    def __init__(self, text: str, tokens: Iterator[tuple[int, str]]) -> None:
        self._text, self._currents = text, tokens
        self._at, self._current = 0, ""
        self._advance()

    def _advance(self) -> str:
        token = self._current
        self._at, self._current = next(self._currents, (len(self._text) + 1, ""))
        return token

    def _fail(self, expected: str) -> ConditionError:
        found = repr(self._current) if self._current else "the end"
        return ConditionError(
            f"{self._text!r} is not a condition: column {self._at}: expected {expected}, found {found}; {FORMS}"
        )

    def _word(self, what: str) -> str:
        if not _WORD.fullmatch(self._current):
            raise self._fail(what)
        return self._advance()

    def parse(self) -> Condition:
        metric = self._word("a metric")
        if _parse_number(metric) is not None:
            raise ConditionError(
                f"{self._text!r} is not a condition: column 1: expected a metric, found a number; {FORMS}"
            )
        sign, reference, factor = "<=", 0.0, 1.0
        if self._current == "none":
            self._advance()
            return self._end(Condition(self._tidy(), metric, sign, reference))
        if self._current == "not":
            self._advance()
            if self._current != "worse":
                raise self._fail("'worse'")
            self._advance()
            return self._end(Condition(self._tidy(), metric, NOT_WORSE, CHAMPION))
        if self._current not in OPERATORS:
            raise self._fail("<=, >=, <, >, 'not worse' or 'none'")
        sign = self._advance()
        word = self._word("a number, 'champion', 'previous' or a metric")
        number = _parse_number(word)
        if self._current == "*":
            self._advance()
            parsed = _parse_number(self._current)
            if parsed is None or not parsed > 0:
                raise self._fail("a factor above 0")
            factor = parsed
            self._advance()
        value: float | str = word if number is None else number
        return self._end(Condition(self._tidy(), metric, sign, value, factor))

    def _tidy(self) -> str:
        return " ".join(self._text.split())

    def _end(self, condition: Condition) -> Condition:
        if self._current:
            raise self._fail("the end")
        return condition


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
