"""What was taken out, what it took of this run, and which models had seen it."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow.compute as pc

from infra.dataset.dataset import Dataset
from infra.removals.log import BadRecord, Entry, in_force
from infra.removals.match import REASON
from infra.store.storage import Storage
from views.removal.exposure import Mark, marked


@dataclass(frozen=True)
class Taken:
    """A removal in force.

    Attributes:
        documents: what select dropped for it in this run; ``None`` if the run has no corpus.
    """

    entry: Entry
    documents: int | None


@dataclass(frozen=True)
class Removals:
    """The section of the page."""

    taken: Sequence[Taken]
    models: Sequence[Mark]


def removals(storage: Storage, recipe: str, corpus: Dataset | None) -> Removals | None:
    """What the page says of removals; ``None`` if there are none."""
    try:
        entries = in_force(storage, recipe)
    except BadRecord:
        return None  # the next run stops with it; a page about the past does not
    if not entries:
        return None
    counts = None if corpus is None else _counts(corpus)
    taken = [
        Taken(item, None if counts is None else counts[item.removal.kind, item.removal.value])
        for item in entries
    ]
    return Removals(taken, marked(storage, recipe))


def _counts(corpus: Dataset) -> Counter[tuple[str, str]]:
    """How many documents each removal took, as the ledger says."""
    found: Counter[tuple[str, str]] = Counter()
    for part in corpus.parts:
        if REASON in part.record.counts.dropped:
            ledger = part.verdicts()
            for said in ledger.filter(pc.equal(ledger["reason"], REASON))["evidence"].to_pylist():
                proof = json.loads(said)
                found[proof["kind"], proof["value"]] += 1
    return found
