"""The recipe's rules applied to columns of annotations: which rule each document fails first."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.compute.arrays import I16, Bools
from infra.schemas.annotations import PII_COLUMNS
from infra.schemas.quality_rules import COMPARE, RULES, Rule
from tasks.select.config import SourceFilters

LANGUAGE, PII = "language", "pii"
PASSED = -1


@dataclass(frozen=True)
class ActiveRule:
    """A rule with the threshold that applies."""

    rule: Rule
    threshold: float


def active_rules(filters: SourceFilters) -> list[ActiveRule]:
    """Return the quality rules that apply, in the order in which they are checked."""
    active = []
    for name in filters.quality_filters:
        for rule in RULES[name]:
            threshold = filters.thresholds.get(rule.name, rule.threshold)
            if threshold is not None:
                active.append(ActiveRule(rule, threshold))
    return active


def required_columns(filters: SourceFilters) -> list[str]:
    """Return the annotation columns that `apply_rules` reads."""
    names = {"language", "language_score"} | {r.rule.signal for r in active_rules(filters)}
    if filters.pii == "drop":
        names.update(PII_COLUMNS)
    return sorted(names)


def rule_reasons(filters: SourceFilters) -> list[str]:
    """Return the reasons a document can fail for, in the order in which they are checked."""
    language = [LANGUAGE] if filters.languages else []
    pii = [PII] if filters.pii == "drop" else []
    return [*language, *(active.rule.name for active in active_rules(filters)), *pii]


def apply_rules(annotations: pa.Table, filters: SourceFilters) -> I16:
    """Apply the rules in their fixed order: language, quality filters as listed, personal data.

    Args:
        annotations: n rows with at least `required_columns`.
        filters: the filters of the source.

    Returns:
        int16[n], the first rule that each document fails, as an index into `rule_reasons`;
        `PASSED` if it fails none.
    """
    annotations = annotations.combine_chunks()
    failed_rule = np.full(annotations.num_rows, PASSED, np.int16)
    for index, fails in enumerate(_iter_checks(annotations, filters)):
        failed_rule[fails & (failed_rule == PASSED)] = index
    return failed_rule


def evidence_columns(filters: SourceFilters, reasons: Collection[str]) -> set[str]:
    """Return the annotation columns that `rule_evidence` reads for these reasons."""
    names = {r.rule.signal for r in active_rules(filters) if r.rule.name in reasons}
    if LANGUAGE in reasons:
        names |= {"language", "language_score"}
    return names.union(PII_COLUMNS) if PII in reasons else names


def rule_evidence(
    annotations: pa.Table, filters: SourceFilters, row: int, reason: str
) -> dict[str, Any]:
    """Return why a document failed: the value of the signal, and what was required."""
    if reason == LANGUAGE:
        language = annotations["language"][row].as_py()
        score = annotations["language_score"][row].as_py()
        return {"language": language, "score": score, "threshold": filters.languages.get(language)}
    if reason == PII:
        kinds = [
            span["kind"] for name in PII_COLUMNS for span in annotations[name][row].as_py() or ()
        ]
        return {"kinds": {kind: kinds.count(kind) for kind in sorted(set(kinds))}}
    active = next(active for active in active_rules(filters) if active.rule.name == reason)
    return {
        "signal": active.rule.signal,
        "value": annotations[active.rule.signal][row].as_py(),
        "required": active.rule.comparison,
        "threshold": active.threshold,
    }


def _iter_checks(annotations: pa.Table, filters: SourceFilters) -> Iterator[Bools]:
    """Yield, for each of `rule_reasons`, which rows fail it."""
    language = annotations["language"]
    if filters.languages:
        passes = np.zeros(annotations.num_rows, bool)
        score = annotations["language_score"].to_numpy()
        for name, min_score in filters.languages.items():
            passes |= _is_in(language, (name,)) & (score >= min_score)
        yield ~passes
    for active in active_rules(filters):
        rule = active.rule
        passes = COMPARE[rule.comparison](annotations[rule.signal].to_numpy(), active.threshold)
        if rule.languages is not None:
            passes |= ~_is_in(language, rule.languages)
        if rule.exempt:
            passes |= _is_in(language, rule.exempt)
        yield ~passes
    if filters.pii == "drop":
        counts = [
            pc.list_value_length(annotations[name]).fill_null(0).to_numpy() for name in PII_COLUMNS
        ]
        yield sum(counts) > 0


def _is_in(column: pa.ChunkedArray, names: tuple[str, ...]) -> Bools:
    flags: Bools = pc.is_in(column, pa.array(names, column.type)).to_numpy()
    return flags
