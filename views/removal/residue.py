"""Which data sets of a store still hold removed documents: a removal deletes no existing data."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.dataset.dataset import Dataset, try_open_dataset
from infra.dataset.step import Steps
from infra.removals.match import Removal, match_part
from infra.runs.run_records import RunNotFoundError, latest_run, with_earlier_results
from infra.store.storage import Storage
from views.removal.exposure import removed_documents


@dataclass(frozen=True)
class ResidualDataset:
    """A data set that holds removed documents.

    Attributes:
        path: its folder, relative to the storage root.
        documents: how many; ``None`` if that is unknown because its inputs were deleted.
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


def find_residual(
    storage: Storage, recipe: str, removals: Sequence[Removal], steps: Steps
) -> list[ResidualDataset]:
    """Find the data sets of a store, of any recipe, that hold documents a recipe removed.

    Models are not included: ``views.removal.exposure`` lists those.
    """
    if not removals:
        return []
    try:
        entries = with_earlier_results(storage, latest_run(storage, recipe)).stages
    except RunNotFoundError:
        entries = ()
    in_latest = {entry.path: entry.try_open(storage) for entry in entries}
    needed = {
        f"{folder}/{file.name}"
        for path, data in in_latest.items()
        if data is not None
        for folder, file in data.manifest.located_files(path)
    }
    residual = []
    for step in steps:
        if not (step.holds_text or step.output == "tokens"):
            continue
        for folder in storage.list_folders(step.name):
            path = f"{step.name}/{folder}"
            data = try_open_dataset(storage, path)
            if data is None:
                continue
            counts = (
                _count_documents(data, removals)
                if step.holds_text
                else _count_tokenized(storage, data, removals, steps)
            )
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
            total = None if counts is None else sum(counts)
            residual.append(ResidualDataset(path, total, size, path in in_latest or referenced))
    return residual


def _count_documents(data: Dataset, removals: Sequence[Removal]) -> list[int]:
    """Count the removed documents of each part."""
    return [int(np.count_nonzero(match_part(part, removals) >= 0)) for part in data.parts]


def _count_tokenized(
    storage: Storage, tokens: Dataset, removals: Sequence[Removal], steps: Steps
) -> list[int] | None:
    """Count the removed documents of each part; ``None`` if that is unknown."""
    removed = removed_documents(storage, tokens, removals, steps)
    if removed is None:
        return None
    ids = pa.array(list(removed), pa.string())
    return [
        int(pc.sum(pc.is_in(part.table(["id"])["id"], value_set=ids)).as_py() or 0)
        for part in tokens.parts
    ]
