"""The impact of a removal on the latest run: documents, in the corpus or not, and duplicates."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.dataset.dataset import PartRef, try_open_dataset
from infra.dataset.manifest import input_path
from infra.dataset.step import Steps, steps_with_output
from infra.removals.examples import find_removed_examples
from infra.removals.match import LICENSE, URL, InvalidRemovalError, Removal, match_part
from infra.runs.run_records import RunNotFoundError, RunRecord, latest_run, with_earlier_results
from infra.store.storage import Storage
from views.documents.lookup import DocumentNotFoundError, find_documents
from views.documents.texts import column_names, open_datasets, text_parts

MAX_LICENSES_SHOWN, MAX_URLS_SHOWN = 20, 3


@dataclass(frozen=True)
class RemovalImpact:
    """The impact of a removal on the latest run.

    Attributes:
        documents: documents of the sources that it matches.
        examples: examples of `finetune` that it matches, by themselves or by what they were made from.
        corpus_documents: how many of them are in the corpus.
        remaining_duplicates: documents that are not removed but are in the same duplicate cluster
            as a matched one.
        remaining_duplicate_urls: URLs of some of them.
        suggestions: if nothing matches: URLs that may have been meant.
    """

    removal: Removal
    documents: int
    corpus_documents: int = 0
    remaining_duplicates: int = 0
    remaining_duplicate_urls: tuple[str, ...] = ()
    suggestions: tuple[str, ...] = ()
    examples: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        value = asdict(self)
        return {**value.pop("removal"), **value}

    def __str__(self) -> str:
        if not self.documents and not self.examples:
            hint = f"; did you mean {' or '.join(self.suggestions)}?" if self.suggestions else ""
            return f"{self.removal}: matches nothing so far{hint}"
        noun = "document" if self.documents == 1 else "documents"
        text = f"{self.removal}: {self.documents:,} {noun}, {self.corpus_documents:,} in the corpus"
        if self.remaining_duplicates:
            urls = ", ".join(self.remaining_duplicate_urls)
            text += f"; {self.remaining_duplicates:,} (near-)duplicates remain"
            text += f", such as {urls}" if urls else ""
        if self.examples:
            text += f"; {self.examples:,} examples of finetune"
        return text


def compute_impact(
    storage: Storage,
    recipe: str,
    requested: Sequence[Removal],
    steps: Steps,
    active: Sequence[Removal] = (),
) -> list[RemovalImpact]:
    """Compute the impact of the requested removals on the latest run; empty if there is no run.

    What the ``active`` removals match, which were recorded before, is no remaining duplicate.

    Raises:
        InvalidRemovalError: if no document has such a license; lists the existing licenses.
    """
    try:
        run = with_earlier_results(storage, latest_run(storage, recipe))
    except RunNotFoundError:
        return []
    texts = text_parts(storage, run, steps)
    corpus_datasets = open_datasets(storage, run, steps_with_output(steps, "corpus"))
    corpus = [part for data in corpus_datasets for part in data.parts]
    example_sets = open_datasets(storage, run, steps_with_output(steps, "examples"))
    examples = [part for data in example_sets for part in data.parts]
    impacts = []
    for item in requested:
        count, in_examples = _count_matches(texts, item), _count_examples(examples, item)
        if count:
            n_remaining, urls = _find_remaining_duplicates(
                _pair_with_labels(storage, run, steps), item, [*requested, *active]
            )
            in_corpus = _count_matches(corpus, item)
            impacts.append(
                RemovalImpact(item, count, in_corpus, n_remaining, urls, examples=in_examples)
            )
            continue
        if in_examples:
            impacts.append(RemovalImpact(item, 0, examples=in_examples))
            continue
        if item.kind == LICENSE and texts:
            raise InvalidRemovalError(
                f"--license {item.value}: no document has this license; the existing ones are "
                f"{_known_licenses([*texts, *examples])}"
            )
        similar = _suggest_urls(storage, run, item.value, steps) if item.kind == URL else ()
        impacts.append(RemovalImpact(item, 0, suggestions=similar))
    return impacts


def _count_matches(parts: Sequence[PartRef], removal: Removal) -> int:
    return sum(int(np.count_nonzero(match_part(part, [removal]) >= 0)) for part in parts)


def _count_examples(parts: Sequence[PartRef], removal: Removal) -> int:
    return sum(len(find_removed_examples(part, [removal])) for part in parts)


def _find_remaining_duplicates(
    pairs: Sequence[tuple[PartRef, PartRef]], removal: Removal, removals: Sequence[Removal]
) -> tuple[int, tuple[str, ...]]:
    """Count the documents in clusters that ``removal`` matches but none of ``removals``.

    Returns:
        The count, and the URLs of some of the documents.
    """
    clusters: set[str | None] = set()
    for texts, labels in pairs:
        rows = np.flatnonzero(match_part(texts, [removal]) >= 0)
        if len(rows):
            clusters.update(labels.table(["cluster"])["cluster"].take(rows).to_pylist())
    cluster_ids = pa.array([item for item in clusters if item is not None], pa.string())
    count, urls = 0, list[str]()
    for texts, labels in pairs if len(cluster_ids) else ():
        members = pc.is_in(labels.table(["cluster"])["cluster"], value_set=cluster_ids).to_numpy()
        if members.any():
            remaining = np.flatnonzero(members & (match_part(texts, removals) < 0))
            count += len(remaining)
            if len(urls) < MAX_URLS_SHOWN:
                column = texts.table(["url"])["url"].take(remaining[:MAX_URLS_SHOWN])
                urls += [url for url in column.to_pylist() if url is not None]
    return count, tuple(urls[:MAX_URLS_SHOWN])


def _pair_with_labels(
    storage: Storage, run: RunRecord, steps: Steps
) -> list[tuple[PartRef, PartRef]]:
    """Pair the parts of the documents with their duplicate labels; empty if either was deleted."""
    document_stages = steps_with_output(steps, "documents")
    for labels in open_datasets(storage, run, steps_with_output(steps, "duplicate_labels")):
        inputs = [item for item in labels.manifest.inputs if item["stage"] in document_stages]
        opened = [try_open_dataset(storage, input_path(item)) for item in inputs]
        parts = [part for data in opened if data is not None for part in data.parts]
        if [part.num_rows for part in parts] == [part.num_rows for part in labels.parts]:
            return list(zip(parts, labels.parts, strict=True))
    return []


def _suggest_urls(storage: Storage, run: RunRecord, url: str, steps: Steps) -> tuple[str, ...]:
    """Return URLs that differ from one in spelling only, such as in their scheme."""
    try:
        documents = find_documents(storage, [run], url, steps)
    except DocumentNotFoundError:
        return ()
    urls = {item.url for found in documents.values() for item in found if item.url}
    return tuple(sorted(urls - {url})[:MAX_URLS_SHOWN])


def _known_licenses(texts: Sequence[PartRef]) -> str:
    """List the licenses that documents have."""
    licenses: set[str | None] = set()
    for part in texts:
        if LICENSE in column_names(part):
            licenses.update(pc.unique(part.table([LICENSE])[LICENSE]).to_pylist())
    names = sorted(name for name in licenses if name is not None)
    more = f", ... ({len(names)})" if len(names) > MAX_LICENSES_SHOWN else ""
    return (", ".join(map(repr, names[:MAX_LICENSES_SHOWN])) + more) or "none"
