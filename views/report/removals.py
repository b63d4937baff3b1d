"""What was taken out, what it took of this run, and which models had seen it."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow.compute as pc

from infra.dataset.dataset import Dataset
from infra.removals.log import ActiveRemoval, CorruptRemovalLogError, load_active_removals
from infra.removals.match import REMOVED
from infra.store.storage import Storage
from views.removal.exposure import ExposureRecord, load_exposure


@dataclass(frozen=True)
class AppliedRemoval:
    """A removal in force.

    Attributes:
        documents: what select dropped for it in this run; ``None`` if the run has no corpus.
    """

    entry: ActiveRemoval
    documents: int | None


@dataclass(frozen=True)
class RemovalsSection:
    """The section of the page."""

    applied: Sequence[AppliedRemoval]
    models: Sequence[ExposureRecord]


def build_removals(storage: Storage, recipe: str, corpus: Dataset | None) -> RemovalsSection | None:
    """What the page says of removals; ``None`` if there are none."""
    try:
        entries = load_active_removals(storage, recipe)
    except CorruptRemovalLogError:
        return None  # the next run stops with it; a page about the past does not
    if not entries:
        return None
    counts = None if corpus is None else _count_by_removal(corpus)
    taken = [
        AppliedRemoval(
            item, None if counts is None else counts[item.removal.kind, item.removal.value]
        )
        for item in entries
    ]
    return RemovalsSection(taken, load_exposure(storage, recipe))


def _count_by_removal(corpus: Dataset) -> Counter[tuple[str, str]]:
    """How many documents each removal took, as the ledger says."""
    found: Counter[tuple[str, str]] = Counter()
    for part in corpus.parts:
        if REMOVED in part.record.counts.dropped:
            ledger = part.verdicts()
            for said in ledger.filter(pc.equal(ledger["reason"], REMOVED))["evidence"].to_pylist():
                proof = json.loads(said)
                found[proof["kind"], proof["value"]] += 1
    return found
