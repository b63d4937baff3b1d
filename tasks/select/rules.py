"""The recipe's rules applied to columns of annotations: a table in, the first failed rule out."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from infra.schemas.quality_rules import COMPARE, RULES, Rule
from tasks.select.config import Gates

LANGUAGE, PII = "language", "pii"
PRIVATE = ("pii", "pii_title", "pii_chapters")  # columns of spans
PASSED = -1

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Limit:
    """A rule with the threshold in force."""

    rule: Rule
    threshold: float


def limits(gates: Gates) -> list[Limit]:
    """The rules in force, in the order in which they are asked."""
    found = []
    for name in gates.quality:
        for rule in RULES[name]:
            threshold = gates.rules.get(rule.name, rule.threshold)
            if threshold is not None:
                found.append(Limit(rule, threshold))
    return found


def columns(gates: Gates) -> list[str]:
    """The annotations that these gates look at."""
    names = {"language", "language_score"} | {limit.rule.signal for limit in limits(gates)}
    if gates.pii == "drop":
        names.update(PRIVATE)
    return sorted(names)


@dataclass(frozen=True)
class Judged:
    """What the rules say of n documents.

    Attributes:
        reasons: the reasons a document can fail for, in the order in which they are asked.
        failed: int16[n], which of ``reasons`` a document fails first; -1 if it passes.
    """

    reasons: list[str]
    failed: npt.NDArray[np.int16]

    @property
    def passed(self) -> Flags:
        """Whether each document passes."""
        good: Flags = self.failed == PASSED
        return good

    def reason(self, row: int) -> str | None:
        """Why a document fails; ``None`` if it passes."""
        code = int(self.failed[row])
        return None if code == PASSED else self.reasons[code]


def judge(notes: pa.Table, gates: Gates) -> Judged:
    """Apply the gates in their fixed order: language, quality filters as listed, personal data.

    Args:
        notes: n rows with at least `columns(gates)`.
        gates: what holds for the source.
    """
    notes = notes.combine_chunks()
    reasons: list[str] = []
    failed = np.full(notes.num_rows, PASSED, np.int16)
    for reason, bad in _checks(notes, gates):
        failed[bad & (failed == PASSED)] = len(reasons)
        reasons.append(reason)
    return Judged(reasons, failed)


def evidence(notes: pa.Table, gates: Gates, row: int, reason: str) -> dict[str, Any]:
    """What a document's failure rests on: the value, and the limit it had to keep."""
    if reason == LANGUAGE:
        language = notes["language"][row].as_py()
        score = notes["language_score"][row].as_py()
        return {"language": language, "score": score, "threshold": gates.languages.get(language)}
    if reason == PII:
        kinds = [span["kind"] for name in PRIVATE for span in notes[name][row].as_py() or ()]
        return {"kinds": {kind: kinds.count(kind) for kind in sorted(set(kinds))}}
    limit = next(limit for limit in limits(gates) if limit.rule.name == reason)
    return {
        "signal": limit.rule.signal,
        "value": notes[limit.rule.signal][row].as_py(),
        "required": limit.rule.comparison,
        "threshold": limit.threshold,
    }


def _checks(notes: pa.Table, gates: Gates) -> Iterator[tuple[str, Flags]]:
    """Each reason with the rows it holds for."""
    language = notes["language"]
    if gates.languages:
        good = np.zeros(notes.num_rows, bool)
        score = notes["language_score"].to_numpy()
        for name, least in gates.languages.items():
            good |= _in(language, (name,)) & (score >= least)
        yield LANGUAGE, ~good
    for limit in limits(gates):
        rule = limit.rule
        good = COMPARE[rule.comparison](notes[rule.signal].to_numpy(), limit.threshold)
        if rule.languages is not None:
            good |= ~_in(language, rule.languages)
        if rule.exempt:
            good |= _in(language, rule.exempt)
        yield rule.name, ~good
    if gates.pii == "drop":
        counts = [pc.list_value_length(notes[name]).fill_null(0).to_numpy() for name in PRIVATE]
        yield PII, sum(counts) > 0


def _in(column: pa.ChunkedArray, names: tuple[str, ...]) -> Flags:
    found: Flags = pc.is_in(column, pa.array(names, column.type)).to_numpy()
    return found
