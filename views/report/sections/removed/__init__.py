"""Removals on request, how many documents they dropped, and the models trained on these."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow.compute as pc

from infra.dataset.dataset import Dataset
from infra.removals.log import ActiveRemoval, CorruptRemovalLogError, load_active_removals
from infra.removals.match import REMOVED, Removal
from views.removal.exposure import ExposureRecord, load_exposure
from views.report.report_run import ReportRun, Section


@dataclass(frozen=True)
class Removed:
    """Active removals, and the models that were trained on what they remove.

    Attributes:
        documents: how many documents this run dropped for each; ``None`` if it has no corpus.
    """

    removals: Sequence[ActiveRemoval]
    documents: Counter[Removal] | None
    models: Sequence[ExposureRecord]


def collect(run: ReportRun) -> Removed | None:
    """Return the recipe's active removals; ``None`` if there are none."""
    try:
        removals = load_active_removals(run.storage, run.record.recipe)
    except CorruptRemovalLogError:
        return None  # it stops the next run, but not a page about a past one
    if not removals:
        return None
    corpus = run.dataset("corpus")
    documents = _count_by_removal(corpus) if corpus is not None else None
    return Removed(removals, documents, load_exposure(run.storage, run.record.recipe))


def _count_by_removal(corpus: Dataset) -> Counter[Removal]:
    """Count the documents that each removal dropped."""
    counts: Counter[Removal] = Counter()
    for part in corpus.parts:
        if REMOVED in part.record.counts.dropped:
            ledger = part.verdicts()
            rows = ledger.filter(pc.equal(ledger["reason"], REMOVED))
            counts.update(map(_parse_removal, rows["evidence"].to_pylist()))
    return counts


def _parse_removal(evidence: str) -> Removal:
    value = json.loads(evidence)
    return Removal(value["kind"], value["value"])


SECTION = Section("removed", "Removed on request", collect)
