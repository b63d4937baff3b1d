"""Where removed text still lies in a store: a removal makes new data sets and erases no old ones."""

from collections.abc import Sequence
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
        in_latest_run: whether the recipe's latest run stands on it.
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
        why = "the latest run stands on it" if self.in_latest_run else "of an earlier run"
        return f"{self.path}: {count}, {self.bytes:,} bytes in all, {why}"


def find_residual(
    storage: Storage, recipe: str, removals: Sequence[Removal]
) -> list[ResidualDataset]:
    """The data sets of a store, of any recipe, that hold what a recipe removed.

    Models are told of by ``views.removal.exposure``.
    """
    try:
        named = {
            stage.path
            for stage in with_earlier_results(storage, latest_run(storage, recipe)).stages
        }
    except RunNotFoundError:
        named = set()
    found = []
    for stage in (*TEXT_STAGES, TOKENIZE) if removals else ():
        for folder in storage.list_folders(stage):
            path = f"{stage}/{folder}"
            try:
                data = open_dataset(storage.subdir(stage, folder))
            except (DatasetNotFoundError, IntegrityError):
                continue
            count = (
                _count_tokenized(storage, data, removals)
                if stage == TOKENIZE
                else _count_documents(data, removals)
            )
            if count != 0:
                size = sum(file.bytes for file in data.manifest.all_files)
                found.append(ResidualDataset(path, count, size, path in named))
    return found


def _count_documents(data: Dataset, removals: Sequence[Removal]) -> int:
    return sum(int(np.count_nonzero(match_part(part, removals) >= 0)) for part in data.parts)


def _count_tokenized(storage: Storage, data: Dataset, removals: Sequence[Removal]) -> int | None:
    gone = removed_documents(storage, data, removals)
    if gone is None:
        return None
    names = pa.array(list(gone), pa.string())
    return sum(
        int(pc.sum(pc.is_in(part.table(["id"])["id"], value_set=names)).as_py() or 0)
        for part in data.parts
    )
