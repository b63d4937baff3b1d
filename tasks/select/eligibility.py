"""Which documents of a part pass the rules, and how they rank: judged once, saved for later phases."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from infra.compute.arrays import F64, I16, I32, Bools
from infra.removals.match import Removal, match_part
from tasks.select.config import SourceFilters
from tasks.select.part_inputs import PartInputs
from tasks.select.plan import SelectionPlan
from tasks.select.rank import rank_keys, required_signals
from tasks.select.rules import PASSED, apply_rules, required_columns

# In place of a rule: annotation failed, so the document does not enter the selection.
NOT_ANNOTATED = -2


@dataclass(frozen=True)
class Eligibility:
    """What the rules decide about the n documents of a part.

    Attributes:
        failed_rule: int16[n], the first rule that each document fails, as an index into
            `tasks.select.rules.rule_reasons`; `PASSED`, or `NOT_ANNOTATED`.
        removal_index: int32[n], the removal that applies to each; -1 for none.
        rank_keys: float64[n, keys], the recipe's order of preference, smaller is preferred.
    """

    failed_rule: I16
    removal_index: I32
    rank_keys: F64

    @property
    def eligible(self) -> Bools:
        """Whether each document can survive: it passes all rules and is not removed."""
        flags: Bools = (self.failed_rule == PASSED) & (self.removal_index < 0)
        return flags

    def save(self, plan: SelectionPlan, part: int) -> None:
        """Write it to the work folder."""
        buffer = io.BytesIO()
        np.savez(buffer, **vars(self))
        plan.work.write(_file(part), buffer.getvalue(), durable=False)

    @staticmethod
    def load(plan: SelectionPlan, part: int) -> "Eligibility":
        """Read what `save` wrote."""
        with np.load(io.BytesIO(plan.work.read(_file(part))), allow_pickle=False) as arrays:
            return Eligibility(**arrays)


def check_eligibility(
    plan: SelectionPlan,
    part: int,
    inputs: PartInputs,
    filters: SourceFilters,
    removals: Sequence[Removal],
) -> int:
    """Apply the rules to a part and save the result; return the number of eligible documents."""
    annotations = inputs.annotations.table(
        sorted({*required_columns(filters), *required_signals(plan.prefer)})
    )
    n = inputs.documents.num_rows
    rows = np.arange(n) if inputs.annotated_rows is None else inputs.annotated_rows
    failed_rule = np.full(n, NOT_ANNOTATED, np.int16)
    failed_rule[rows] = apply_rules(annotations, filters)
    documents = inputs.read_annotated(inputs.documents, ["date"])
    ranks = np.zeros((n, len(plan.prefer)))
    ranks[rows] = rank_keys(plan.prefer, inputs.source_index, documents, annotations)
    result = Eligibility(failed_rule, match_part(inputs.documents, removals), ranks)
    result.save(plan, part)
    return int(result.eligible.sum())


def _file(part: int) -> str:
    return f"eligibility/{part}.npz"
