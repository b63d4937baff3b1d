"""What ``gristmill remove`` does: check, record, and say what it reaches and which models saw it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from infra.dataset import Dataset
from infra.excerpts import document_sets, has_column, open_all
from infra.find import UnknownDocument, find
from infra.records import NoRun, RunRecord, extended, latest
from infra.removal_log import in_force, lift, record
from infra.removals import LICENSE, URL, BadRemoval, Removal, removed_of
from infra.seen import Mark, mark_models
from infra.storage import Storage
from tasks.train.order import steps_that_saw

SHOWN_LICENSES, SHOWN_ADDRESSES = 20, 3


@dataclass(frozen=True)
class Reached:
    """What a removal takes of the latest run.

    Attributes:
        removal: what is taken out.
        documents: documents of the sources that it takes.
        corpus: how many of them are in the corpus.
        near: where it takes none: addresses that it may have meant.
    """

    removal: Removal
    documents: int
    corpus: int
    near: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        counts = {"documents": self.documents, "corpus": self.corpus}
        return {**self.removal.facts(), **counts, "near": list(self.near)}

    def __str__(self) -> str:
        if self.documents:
            return f"{self.removal}: {self.documents:,} documents, {self.corpus:,} in the corpus"
        near = f"; did you mean {' or '.join(self.near)}?" if self.near else ""
        return f"{self.removal}: matches nothing so far{near}"


@dataclass(frozen=True)
class Done:
    """What a command did.

    Attributes:
        reached: what each removal takes of the latest run; empty if there is no run.
        new: the removals that were recorded now, or lifted.
        models: models that saw what is removed.
    """

    reached: Sequence[Reached]
    new: Sequence[Removal]
    models: Sequence[Mark]


def remove(
    storage: Storage, recipe: str, wanted: Sequence[Removal], note: str | None = None
) -> Done:
    """Record removals and mark the models that saw what they take.

    Raises:
        BadRemoval: if no document of the latest run has such a licence; it lists those there are.
            Nothing is recorded then.
    """
    reached = reach(storage, recipe, wanted)
    new = record(storage, recipe, wanted, note)
    return Done(reached, new, marks(storage, recipe))


def undo(storage: Storage, recipe: str, wanted: Sequence[Removal], note: str | None = None) -> Done:
    """Record that removals no longer hold. Raises ``infra.removal_log.NotRemoved``."""
    lifted = lift(storage, recipe, wanted, note)
    return Done((), lifted, marks(storage, recipe))


def marks(storage: Storage, recipe: str) -> list[Mark]:
    """Mark the models of a store that saw what a recipe removed; returns these marks."""
    gone = tuple(entry.removal for entry in in_force(storage, recipe))
    return mark_models(storage, recipe, gone, steps_that_saw)


def reach(storage: Storage, recipe: str, wanted: Sequence[Removal]) -> list[Reached]:
    """What removals take of the latest run; nothing is said if there is none.

    Raises:
        BadRemoval: if no document has such a licence.
    """
    try:
        run = extended(storage, latest(storage, recipe))
    except NoRun:
        return []
    documents = document_sets(storage, run)
    corpus = open_all(storage, run, "select")
    found = []
    for item in wanted:
        count = _count(documents, item)
        near: tuple[str, ...] = ()
        if not count and item.kind == LICENSE:
            _refuse_license(documents, item)
        if not count and item.kind == URL:
            near = _near(storage, run, item.value)
        found.append(Reached(item, count, _count(corpus, item) if count else 0, near))
    return found


def _count(data: Sequence[Dataset], item: Removal) -> int:
    parts = [part for one in data for part in one.parts]
    return sum(int(np.count_nonzero(removed_of(part, [item]) >= 0)) for part in parts)


def _near(storage: Storage, run: RunRecord, url: str) -> tuple[str, ...]:
    """Addresses that differ from one in spelling only, such as in their scheme."""
    try:
        named = find(storage, [run], url)
    except UnknownDocument:
        return ()
    urls = {item.url for found in named.values() for item in found if item.url}
    return tuple(sorted(urls - {url})[:SHOWN_ADDRESSES])


def _refuse_license(documents: Sequence[Dataset], item: Removal) -> None:
    """Raise ``BadRemoval`` with the licences that there are, if there are documents at all."""
    seen: set[str | None] = set()
    for part in (part for data in documents for part in data.parts):
        if has_column(part, LICENSE):
            seen.update(pc.unique(part.table([LICENSE])[LICENSE]).to_pylist())
    if documents:
        names = sorted(name for name in seen if name is not None)
        more = f", ... ({len(names)})" if len(names) > SHOWN_LICENSES else ""
        listed = ", ".join(map(repr, names[:SHOWN_LICENSES])) + more
        raise BadRemoval(
            f"--license {item.value}: no document has this licence; there are {listed or 'none'}"
        )
