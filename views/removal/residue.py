"""What still holds text of removed documents: data sets and reports. A removal deletes nothing."""

import io
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import unescape
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.dataset.dataset import Dataset, PartRef, try_open_dataset
from infra.dataset.step import Steps, steps_with_output
from infra.removals.examples import find_removed_examples
from infra.removals.match import Removal, match_ids, match_table
from infra.runs.run_records import REPORTS, RunNotFoundError, latest_run, with_earlier_results
from infra.schemas.examples import AUGMENTED_FILE
from infra.store.storage import Storage
from views.removal.examples import removed_examples
from views.removal.exposure import removed_documents

# Attributes of what a report quotes; see the templates of its sections.
QUOTED = re.compile(r'data-document="([0-9a-f]{32})" data-url="([^"]*)"')


@dataclass(frozen=True)
class Residue:
    """A data set or a report that holds text of removed documents.

    Attributes:
        path: its folder or file, relative to the storage root.
        documents: how many removed documents; ``None`` if that is unknown, because its inputs were
            deleted or its manifest cannot be read.
        bytes: total size of its files.
        in_latest_run: whether the recipe's latest run uses it, or a file of it that holds them.
    """

    path: str
    documents: int | None
    bytes: int
    in_latest_run: bool

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        count = "an unknown number of" if self.documents is None else f"{self.documents:,}"
        used = "used by the latest run" if self.in_latest_run else "of an earlier run"
        return f"{self.path}: {count} removed documents, {self.bytes:,} bytes in all, {used}"


def find_residue(
    storage: Storage, recipe: str, removals: Sequence[Removal], steps: Steps
) -> list[Residue]:
    """Find what holds text of documents that a recipe removed: data sets and reports of any recipe.

    Models are not included, but for the examples that were written for them: ``views.removal.exposure``
    lists models.
    """
    if not removals:
        return []
    try:
        run = with_earlier_results(storage, latest_run(storage, recipe))
        entries, report = run.stages, run.report
    except RunNotFoundError:
        entries, report = (), None
    in_latest = {entry.path: entry.try_open(storage) for entry in entries}
    needed = {
        f"{folder}/{file.name}"
        for path, data in in_latest.items()
        if data is not None
        for folder, file in data.manifest.located_files(path)
    }
    residue: list[Residue] = []
    removed_ids: set[str] = set()
    for step in steps:
        if not (step.quotes_text or step.makes_model):
            continue
        for folder in storage.list_folders(step.name):
            path = f"{step.name}/{folder}"
            data = try_open_dataset(storage, path)
            if data is None:
                sizes = storage.file_sizes(path)
                if any(name.endswith(".parquet") for name in sizes):
                    residue.append(Residue(path, None, sum(sizes.values()), path in in_latest))
                continue
            counts: list[int] | None
            total: int | None = None
            if step.holds_text:
                counts = [_count_documents(part, removals, removed_ids) for part in data.parts]
            elif step.output == "examples":
                found = [find_removed_examples(part, removals) for part in data.parts]
                counts = [len(items) for items in found]
                removed_ids.update(*found)
            elif step.makes_model:
                counts = _count_augmented(storage, data, removals, steps)
            else:
                by_part = _find_derived(storage, data, removals, steps)
                counts = None if by_part is None else [len(ids) for ids in by_part]
                total = None if by_part is None else len(set[str]().union(*by_part))
            if counts is not None and not any(counts):
                continue
            # The latest run's data sets may refer to parts of this one, whose files must stay then.
            referenced = any(
                f"{part.folder or path}/{file.name}" in needed
                for part, count in zip(data.manifest.parts, counts or (), strict=False)
                for file in part.files.values()
                if count
            )
            size = sum(file.bytes for file in data.manifest.all_files)
            if total is None and counts is not None:
                total = sum(counts)
            residue.append(Residue(path, total, size, path in in_latest or referenced))
    for path, size in storage.file_sizes(REPORTS).items():
        count = _count_quoted(storage.read(path).decode(errors="replace"), removals, removed_ids)
        if count:
            residue.append(Residue(path, count, size, path == report))
    return residue


def _count_documents(part: PartRef, removals: Sequence[Removal], ids: set[str]) -> int:
    """Count the removed documents of a part, and add their ids."""
    matches = match_ids(part, removals)
    ids.update(document for document, _ in matches)
    return len(matches)


def _find_derived(
    storage: Storage, data: Dataset, removals: Sequence[Removal], steps: Steps
) -> list[set[str]] | None:
    """Find the removed documents in each part of token shards, an index or scores; ``None`` if unknown."""
    if data.stage in steps_with_output(steps, "test_scores"):
        removed = removed_examples(storage, data, removals, steps)
    else:
        removed = removed_documents(storage, data, removals, steps)
    if removed is None:
        return None
    ids = pa.array(list(removed), pa.string())
    return [
        set(column.filter(pc.is_in(column, value_set=ids)).to_pylist())
        for column in (part.table(["id"])["id"] for part in data.parts)
    ]


def _count_augmented(
    storage: Storage, model: Dataset, removals: Sequence[Removal], steps: Steps
) -> list[int] | None:
    """Count the rows that were written for a fine-tuned model from removed examples; ``None`` if unknown."""
    if AUGMENTED_FILE not in model.manifest.files:
        return []
    removed = removed_examples(storage, model, removals, steps)
    if removed is None:
        return None
    ids = pq.read_table(io.BytesIO(model.read(AUGMENTED_FILE)))["id"].to_pylist()
    return [sum(name.partition("+")[0] in removed for name in ids)]


def _count_quoted(page: str, removals: Sequence[Removal], removed_ids: set[str]) -> int:
    """Count the removed documents that a report quotes."""
    quoted = {document: unescape(url) or None for document, url in QUOTED.findall(page)}
    table = pa.table({"id": list(quoted), "url": pa.array(quoted.values(), pa.string())})
    matches = match_table(table, removals) if quoted else np.empty(0)
    ids = (document in removed_ids for document in quoted)
    return sum(bool(match >= 0) or known for match, known in zip(matches, ids, strict=True))
