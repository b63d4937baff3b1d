"""What a removal takes of the latest run: documents, how many of them are in the corpus, copies."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.dataset.dataset import (
    BrokenPromise,
    Dataset,
    NotCommitted,
    PartRef,
    input_path,
    open_dataset,
)
from infra.removals.match import LICENSE, URL, BadRemoval, Removal, removed_of
from infra.runs.run_records import NoRun, RunRecord, extended, latest
from infra.store.storage import Storage
from views.documents.lookup import UnknownDocument, find
from views.documents.texts import ACQUIRE, EXTRACT, document_sets, has_column, open_all

SHOWN_LICENSES, SHOWN_ADDRESSES = 20, 3


@dataclass(frozen=True)
class Reached:
    """What a removal takes of the latest run.

    Attributes:
        removal: what is taken out.
        documents: documents of the sources that it takes.
        corpus: how many of them are in the corpus.
        copies: documents that stay, but resemble one that goes: members of the same cluster.
        copies_at: addresses of some of them.
        near: where nothing is taken: addresses that may have been meant.
    """

    removal: Removal
    documents: int
    corpus: int = 0
    copies: int = 0
    copies_at: tuple[str, ...] = ()
    near: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        value = asdict(self)
        return {**value.pop("removal"), **value}

    def __str__(self) -> str:
        if not self.documents:
            near = f"; did you mean {' or '.join(self.near)}?" if self.near else ""
            return f"{self.removal}: matches nothing so far{near}"
        some = "1 document" if self.documents == 1 else f"{self.documents:,} documents"
        said = f"{self.removal}: {some}, {self.corpus:,} in the corpus"
        if self.copies:
            at = f", such as {', '.join(self.copies_at)}" if self.copies_at else ""
            said += f"; {self.copies:,} (near) copies stay{at}"
        return said


def reach(
    storage: Storage, recipe: str, wanted: Sequence[Removal], in_force: Sequence[Removal] = ()
) -> list[Reached]:
    """What removals take of the latest run; nothing is said if there is none.

    Args:
        storage: the root of the store.
        recipe: the recipe's name.
        wanted: what is to be taken out.
        in_force: what is taken out already: it is no copy that stays.

    Raises:
        BadRemoval: if no document has such a licence; it lists those that documents have.
    """
    try:
        run = extended(storage, latest(storage, recipe))
    except NoRun:
        return []
    texts, corpus = document_sets(storage, run), open_all(storage, run, "select")
    found = []
    for item in wanted:
        count = _count(texts, item)
        if count:
            copies, at = _copies(storage, run, item, [*wanted, *in_force])
            found.append(Reached(item, count, _count(corpus, item), copies, at))
            continue
        if item.kind == LICENSE and texts:
            raise BadRemoval(
                f"--license {item.value}: no document has this licence; there are {_seen(texts)}"
            )
        near = _near(storage, run, item.value) if item.kind == URL else ()
        found.append(Reached(item, 0, near=near))
    return found


def _count(data: Sequence[Dataset], item: Removal) -> int:
    parts = [part for one in data for part in one.parts]
    return sum(int(np.count_nonzero(removed_of(part, [item]) >= 0)) for part in parts)


def _copies(
    storage: Storage, run: RunRecord, item: Removal, gone: Sequence[Removal]
) -> tuple[int, tuple[str, ...]]:
    """How many documents share a cluster with one that the item takes and stay, and where some are."""
    pairs = _marked(storage, run)
    clusters: set[str | None] = set()
    for texts, marks in pairs:
        taken = np.flatnonzero(removed_of(texts, [item]) >= 0)
        if len(taken):
            clusters.update(marks.table(["cluster"])["cluster"].take(taken).to_pylist())
    names = pa.array([name for name in clusters if name is not None], pa.string())
    count, at = 0, list[str]()
    for texts, marks in pairs if len(names) else ():
        within = pc.is_in(marks.table(["cluster"])["cluster"], value_set=names).to_numpy()
        if within.any():
            stay = np.flatnonzero(within & (removed_of(texts, gone) < 0))
            count += len(stay)
            if len(at) < SHOWN_ADDRESSES:
                urls = texts.table(["url"])["url"].take(stay[:SHOWN_ADDRESSES]).to_pylist()
                at += [url for url in urls if url is not None]
    return count, tuple(at[:SHOWN_ADDRESSES])


def _marked(storage: Storage, run: RunRecord) -> list[tuple[PartRef, PartRef]]:
    """The parts of the documents, each with its duplicate marks; none if either is not there."""
    for marks in open_all(storage, run, "dedup"):
        inputs = [item for item in marks.manifest.inputs if item["stage"] in (ACQUIRE, EXTRACT)]
        homes = [storage.at(*input_path(item).split("/")) for item in inputs]
        try:
            parts = [part for home in homes for part in open_dataset(home).parts]
        except (NotCommitted, BrokenPromise):
            continue
        if [part.rows for part in parts] == [part.rows for part in marks.parts]:
            return list(zip(parts, marks.parts, strict=True))
    return []


def _near(storage: Storage, run: RunRecord, url: str) -> tuple[str, ...]:
    """Addresses that differ from one in spelling only, such as in their scheme."""
    try:
        named = find(storage, [run], url)
    except UnknownDocument:
        return ()
    urls = {item.url for found in named.values() for item in found if item.url}
    return tuple(sorted(urls - {url})[:SHOWN_ADDRESSES])


def _seen(texts: Sequence[Dataset]) -> str:
    """The licences that documents have."""
    seen: set[str | None] = set()
    for part in (part for data in texts for part in data.parts):
        if has_column(part, LICENSE):
            seen.update(pc.unique(part.table([LICENSE])[LICENSE]).to_pylist())
    names = sorted(name for name in seen if name is not None)
    more = f", ... ({len(names)})" if len(names) > SHOWN_LICENSES else ""
    return (", ".join(map(repr, names[:SHOWN_LICENSES])) + more) or "none"
