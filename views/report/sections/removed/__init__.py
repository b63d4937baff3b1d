"""Removals on request, how many documents they dropped, and the models trained on these."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow.compute as pc

from infra.dataset.dataset import Dataset
from infra.removals.log import ActiveRemoval, CorruptRemovalLogError, load_active_removals
from infra.removals.match import REMOVED
from views.removal.exposure import ExposureRecord, load_exposure
from views.report.report_run import ReportRun, Section


@dataclass(frozen=True)
class AppliedRemoval:
    """An active removal.

    Attributes:
        entry: the removal and when it was recorded.
        documents: how many documents this run dropped for it; ``None`` if it has no corpus.
    """

    entry: ActiveRemoval
    documents: int | None


@dataclass(frozen=True)
class Removed:
    """Active removals, and the models that were trained on what they remove."""

    applied: Sequence[AppliedRemoval]
    models: Sequence[ExposureRecord]


def collect(run: ReportRun) -> Removed | None:
    """Return the recipe's active removals; ``None`` if there are none."""
    try:
        entries = load_active_removals(run.storage, run.record.recipe)
    except CorruptRemovalLogError:
        return None  # it stops the next run, but not a page about a past one
    if not entries:
        return None
    corpus = run.dataset("corpus")
    counts = None if corpus is None else _count_by_removal(corpus)
    applied = [
        AppliedRemoval(
            item, None if counts is None else counts[item.removal.kind, item.removal.value]
        )
        for item in entries
    ]
    return Removed(applied, load_exposure(run.storage, run.record.recipe))


def _count_by_removal(corpus: Dataset) -> Counter[tuple[str, str]]:
    """Count the documents that each removal dropped."""
    counts: Counter[tuple[str, str]] = Counter()
    for part in corpus.parts:
        if REMOVED in part.record.counts.dropped:
            ledger = part.verdicts()
            rows = ledger.filter(pc.equal(ledger["reason"], REMOVED))
            for text in rows["evidence"].to_pylist():
                evidence = json.loads(text)
                counts[evidence["kind"], evidence["value"]] += 1
    return counts


SECTION = Section("removed", "Removed on request", collect)
