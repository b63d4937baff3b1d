"""What a removal takes of the latest run: documents, how many of them are in the corpus, copies."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.dataset.dataset import (
    Dataset,
    DatasetNotFoundError,
    IntegrityError,
    PartRef,
    input_path,
    open_dataset,
)
from infra.removals.match import LICENSE, URL, InvalidRemovalError, Removal, match_part
from infra.runs.run_records import RunNotFoundError, RunRecord, latest_run, with_earlier_results
from infra.store.storage import Storage
from views.documents.lookup import DocumentNotFoundError, find_documents
from views.documents.texts import ACQUIRE, EXTRACT, has_column, open_datasets, text_datasets

MAX_LICENSES_SHOWN, MAX_URLS_SHOWN = 20, 3


@dataclass(frozen=True)
class RemovalImpact:
    """What a removal takes of the latest run.

    Attributes:
        removal: what is taken out.
        documents: documents of the sources that it takes.
        corpus_documents: how many of them are in the corpus.
        remaining_duplicates: documents that stay, but resemble one that goes: members of the same cluster.
        remaining_duplicate_urls: addresses of some of them.
        suggestions: where nothing is taken: addresses that may have been meant.
    """

    removal: Removal
    documents: int
    corpus_documents: int = 0
    remaining_duplicates: int = 0
    remaining_duplicate_urls: tuple[str, ...] = ()
    suggestions: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        value = asdict(self)
        return {**value.pop("removal"), **value}

    def __str__(self) -> str:
        if not self.documents:
            near = f"; did you mean {' or '.join(self.suggestions)}?" if self.suggestions else ""
            return f"{self.removal}: matches nothing so far{near}"
        some = "1 document" if self.documents == 1 else f"{self.documents:,} documents"
        said = f"{self.removal}: {some}, {self.corpus_documents:,} in the corpus"
        if self.remaining_duplicates:
            at = (
                f", such as {', '.join(self.remaining_duplicate_urls)}"
                if self.remaining_duplicate_urls
                else ""
            )
            said += f"; {self.remaining_duplicates:,} (near) copies stay{at}"
        return said


def compute_impact(
    storage: Storage, recipe: str, requested: Sequence[Removal], active: Sequence[Removal] = ()
) -> list[RemovalImpact]:
    """What removals take of the latest run; nothing is said if there is none.

    Args:
        storage: the root of the store.
        recipe: the recipe's name.
        requested: what is to be taken out.
        active: what is taken out already: it is no copy that stays.

    Raises:
        BadRemoval: if no document has such a licence; it lists those that documents have.
    """
    try:
        run = with_earlier_results(storage, latest_run(storage, recipe))
    except RunNotFoundError:
        return []
    texts, corpus = text_datasets(storage, run), open_datasets(storage, run, "select")
    found = []
    for item in requested:
        count = _count_matches(texts, item)
        if count:
            copies, at = _find_remaining_duplicates(storage, run, item, [*requested, *active])
            found.append(RemovalImpact(item, count, _count_matches(corpus, item), copies, at))
            continue
        if item.kind == LICENSE and texts:
            raise InvalidRemovalError(
                f"--license {item.value}: no document has this licence; there are {_known_licenses(texts)}"
            )
        near = _suggest_urls(storage, run, item.value) if item.kind == URL else ()
        found.append(RemovalImpact(item, 0, suggestions=near))
    return found


def _count_matches(data: Sequence[Dataset], removal: Removal) -> int:
    parts = [part for one in data for part in one.parts]
    return sum(int(np.count_nonzero(match_part(part, [removal]) >= 0)) for part in parts)


def _find_remaining_duplicates(
    storage: Storage, run: RunRecord, removal: Removal, removals: Sequence[Removal]
) -> tuple[int, tuple[str, ...]]:
    """How many documents share a cluster with one that the item takes and stay, and where some are."""
    pairs = _pair_with_labels(storage, run)
    clusters: set[str | None] = set()
    for texts, marks in pairs:
        taken = np.flatnonzero(match_part(texts, [removal]) >= 0)
        if len(taken):
            clusters.update(marks.table(["cluster"])["cluster"].take(taken).to_pylist())
    names = pa.array([name for name in clusters if name is not None], pa.string())
    count, at = 0, list[str]()
    for texts, marks in pairs if len(names) else ():
        within = pc.is_in(marks.table(["cluster"])["cluster"], value_set=names).to_numpy()
        if within.any():
            stay = np.flatnonzero(within & (match_part(texts, removals) < 0))
            count += len(stay)
            if len(at) < MAX_URLS_SHOWN:
                urls = texts.table(["url"])["url"].take(stay[:MAX_URLS_SHOWN]).to_pylist()
                at += [url for url in urls if url is not None]
    return count, tuple(at[:MAX_URLS_SHOWN])


def _pair_with_labels(storage: Storage, run: RunRecord) -> list[tuple[PartRef, PartRef]]:
    """The parts of the documents, each with its duplicate marks; none if either is not there."""
    for marks in open_datasets(storage, run, "dedup"):
        inputs = [item for item in marks.manifest.inputs if item["stage"] in (ACQUIRE, EXTRACT)]
        homes = [storage.subdir(*input_path(item).split("/")) for item in inputs]
        try:
            parts = [part for home in homes for part in open_dataset(home).parts]
        except (DatasetNotFoundError, IntegrityError):
            continue
        if [part.num_rows for part in parts] == [part.num_rows for part in marks.parts]:
            return list(zip(parts, marks.parts, strict=True))
    return []


def _suggest_urls(storage: Storage, run: RunRecord, url: str) -> tuple[str, ...]:
    """Addresses that differ from one in spelling only, such as in their scheme."""
    try:
        named = find_documents(storage, [run], url)
    except DocumentNotFoundError:
        return ()
    urls = {item.url for found in named.values() for item in found if item.url}
    return tuple(sorted(urls - {url})[:MAX_URLS_SHOWN])


def _known_licenses(texts: Sequence[Dataset]) -> str:
    """The licences that documents have."""
    seen: set[str | None] = set()
    for part in (part for data in texts for part in data.parts):
        if has_column(part, LICENSE):
            seen.update(pc.unique(part.table([LICENSE])[LICENSE]).to_pylist())
    names = sorted(name for name in seen if name is not None)
    more = f", ... ({len(names)})" if len(names) > MAX_LICENSES_SHOWN else ""
    return (", ".join(map(repr, names[:MAX_LICENSES_SHOWN])) + more) or "none"
