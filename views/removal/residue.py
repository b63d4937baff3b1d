"""Where removed text still lies in a store: a removal makes new data sets and erases no old ones."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.dataset.dataset import Dataset, DatasetNotFoundError, IntegrityError, open_dataset
from infra.removals.match import Removal, match_part
from infra.runs.run_records import RunNotFoundError, latest_run, with_earlier_results
from infra.store.storage import Storage
from views.removal.exposure import removed_documents

TEXT_STAGES = ("acquire", "extract", "select")  # stages whose data sets hold the text itself
TOKENIZE = "tokenize"


@dataclass(frozen=True)
class ResidualDataset:
    """A data set that holds removed documents.

    Attributes:
        path: its folder, relative to the storage root.
        documents: how many; ``None`` if that cannot be told, because what it was made from is gone.
        bytes: of all its files.
        in_latest_run: whether the recipe's latest run uses it, or a file of it that holds them.
    """

    path: str
    documents: int | None
    bytes: int
    in_latest_run: bool

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        count = "cannot be told" if self.documents is None else f"{self.documents:,} documents"
        why = "the latest run uses it" if self.in_latest_run else "of an earlier run"
        return f"{self.path}: {count}, {self.bytes:,} bytes in all, {why}"


def find_residual(
    storage: Storage, recipe: str, removals: Sequence[Removal]
) -> list[ResidualDataset]:
    """The data sets of a store, of any recipe, that hold what a recipe removed.

    Models are told of by ``views.removal.exposure``.
    """
    try:
        latest = with_earlier_results(storage, latest_run(storage, recipe)).stages
    except RunNotFoundError:
        latest = ()
    named = {stage.path for stage in latest}
    needed = _list_files(storage, [stage.path for stage in latest])
    found = []
    for stage in (*TEXT_STAGES, TOKENIZE) if removals else ():
        for folder in storage.list_folders(stage):
            path = f"{stage}/{folder}"
            try:
                data = open_dataset(storage.subdir(stage, folder))
            except (DatasetNotFoundError, IntegrityError):
                continue
            counts = (
                _count_tokenized(storage, data, removals)
                if stage == TOKENIZE
                else _count_documents(data, removals)
            )
            if counts is not None and not any(counts):
                continue
            size = sum(file.bytes for file in data.manifest.all_files)
            # A data set of the latest run may refer to the parts; then their files have to stay.
            used = any(
                f"{part.folder or path}/{file.name}" in needed
                for part, count in zip(data.manifest.parts, counts or (), strict=False)
                for file in part.files.values()
                if count
            )
            total = None if counts is None else sum(counts)
            found.append(ResidualDataset(path, total, size, path in named or used))
    return found


def _list_files(storage: Storage, paths: Sequence[str]) -> set[str]:
    files: set[str] = set()
    for path in paths:
        with suppress(DatasetNotFoundError, IntegrityError):
            manifest = open_dataset(storage.subdir(*path.split("/"))).manifest
            files |= {f"{folder}/{file.name}" for folder, file in manifest.located_files(path)}
    return files


def _count_documents(data: Dataset, removals: Sequence[Removal]) -> list[int]:
    return [int(np.count_nonzero(match_part(part, removals) >= 0)) for part in data.parts]


def _count_tokenized(
    storage: Storage, data: Dataset, removals: Sequence[Removal]
) -> list[int] | None:
    gone = removed_documents(storage, data, removals)
    if gone is None:
        return None
    names = pa.array(list(gone), pa.string())
    return [
        int(pc.sum(pc.is_in(part.table(["id"])["id"], value_set=names)).as_py() or 0)
        for part in data.parts
    ]
