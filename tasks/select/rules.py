"""The recipe's rules applied to columns of annotations: a table in, the first failed rule out."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from infra.schemas.annotations import PII_COLUMNS
from infra.schemas.quality_rules import COMPARE, RULES, Rule
from tasks.select.config import SourceFilters

LANGUAGE, PII = "language", "pii"
PASSED = -1

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ActiveRule:
    """A rule with the threshold in force."""

    rule: Rule
    threshold: float


def active_rules(filters: SourceFilters) -> list[ActiveRule]:
    """The rules in force, in the order in which they are asked."""
    found = []
    for name in filters.quality_filters:
        for rule in RULES[name]:
            threshold = filters.thresholds.get(rule.name, rule.threshold)
            if threshold is not None:
                found.append(ActiveRule(rule, threshold))
    return found


def required_columns(filters: SourceFilters) -> list[str]:
    """The annotations that these gates look at."""
    names = {"language", "language_score"} | {limit.rule.signal for limit in active_rules(filters)}
    if filters.pii == "drop":
        names.update(PII_COLUMNS)
    return sorted(names)


@dataclass(frozen=True)
class RuleResults:
    """What the rules say of n documents.

    Attributes:
        reasons: the reasons a document can fail for, in the order in which they are asked.
        failed_rule: int16[n], which of ``reasons`` a document fails first; -1 if it passes.
    """

    reasons: list[str]
    failed_rule: npt.NDArray[np.int16]

    @property
    def passed(self) -> Flags:
        """Whether each document passes."""
        good: Flags = self.failed_rule == PASSED
        return good

    def reason(self, row: int) -> str | None:
        """Why a document fails; ``None`` if it passes."""
        code = int(self.failed_rule[row])
        return None if code == PASSED else self.reasons[code]


def apply_rules(annotations: pa.Table, filters: SourceFilters) -> RuleResults:
    """Apply the gates in their fixed order: language, quality filters as listed, personal data.

    Args:
        annotations: n rows with at least `required_columns(gates)`.
        filters: what holds for the source.
    """
    annotations = annotations.combine_chunks()
    reasons: list[str] = []
    failed = np.full(annotations.num_rows, PASSED, np.int16)
    for reason, bad in _iter_checks(annotations, filters):
        failed[bad & (failed == PASSED)] = len(reasons)
        reasons.append(reason)
    return RuleResults(reasons, failed)


def rule_evidence(
    annotations: pa.Table, filters: SourceFilters, row: int, reason: str
) -> dict[str, Any]:
    """What a document's failure rests on: the value, and the limit it had to keep."""
    if reason == LANGUAGE:
        language = annotations["language"][row].as_py()
        score = annotations["language_score"][row].as_py()
        return {"language": language, "score": score, "threshold": filters.languages.get(language)}
    if reason == PII:
        kinds = [
            span["kind"] for name in PII_COLUMNS for span in annotations[name][row].as_py() or ()
        ]
        return {"kinds": {kind: kinds.count(kind) for kind in sorted(set(kinds))}}
    limit = next(limit for limit in active_rules(filters) if limit.rule.name == reason)
    return {
        "signal": limit.rule.signal,
        "value": annotations[limit.rule.signal][row].as_py(),
        "required": limit.rule.comparison,
        "threshold": limit.threshold,
    }


def _iter_checks(annotations: pa.Table, filters: SourceFilters) -> Iterator[tuple[str, Flags]]:
    """Each reason with the rows it holds for."""
    language = annotations["language"]
    if filters.languages:
        good = np.zeros(annotations.num_rows, bool)
        score = annotations["language_score"].to_numpy()
        for name, least in filters.languages.items():
            good |= _is_in(language, (name,)) & (score >= least)
        yield LANGUAGE, ~good
    for limit in active_rules(filters):
        rule = limit.rule
        good = COMPARE[rule.comparison](annotations[rule.signal].to_numpy(), limit.threshold)
        if rule.languages is not None:
            good |= ~_is_in(language, rule.languages)
        if rule.exempt:
            good |= _is_in(language, rule.exempt)
        yield rule.name, ~good
    if filters.pii == "drop":
        counts = [
            pc.list_value_length(annotations[name]).fill_null(0).to_numpy() for name in PII_COLUMNS
        ]
        yield PII, sum(counts) > 0


def _is_in(column: pa.ChunkedArray, names: tuple[str, ...]) -> Flags:
    found: Flags = pc.is_in(column, pa.array(names, column.type)).to_numpy()
    return found
