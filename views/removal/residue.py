"""Where removed text still lies in a store: a removal makes new data sets and erases no old ones."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.dataset.dataset import BrokenPromise, Dataset, NotCommitted, open_dataset
from infra.removals.match import Removal, removed_of
from infra.runs.run_records import NoRun, extended, latest
from infra.store.storage import Storage
from views.removal.exposure import removed_ids

TEXT = ("acquire", "extract", "select")  # stages whose data sets hold the text itself
TOKENS = "tokenize"


@dataclass(frozen=True)
class Holder:
    """A data set that holds removed documents.

    Attributes:
        path: its folder, relative to the storage root.
        documents: how many; ``None`` if that cannot be told, because what it was made from is gone.
        bytes: of all its files.
        named: whether the recipe's latest run stands on it.
    """

    path: str
    documents: int | None
    bytes: int
    named: bool

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        count = "cannot be told" if self.documents is None else f"{self.documents:,} documents"
        why = "the latest run stands on it" if self.named else "of an earlier run"
        return f"{self.path}: {count}, {self.bytes:,} bytes in all, {why}"


def holders(storage: Storage, recipe: str, removals: Sequence[Removal]) -> list[Holder]:
    """The data sets of a store, of any recipe, that hold what a recipe removed.

    Models are told of by ``views.removal.exposure``.
    """
    try:
        named = {stage.path for stage in extended(storage, latest(storage, recipe)).stages}
    except NoRun:
        named = set()
    found = []
    for stage in (*TEXT, TOKENS) if removals else ():
        for folder in storage.folders(stage):
            path = f"{stage}/{folder}"
            try:
                data = open_dataset(storage.at(stage, folder))
            except (NotCommitted, BrokenPromise):
                continue
            count = _tokens(storage, data, removals) if stage == TOKENS else _texts(data, removals)
            if count != 0:
                size = sum(file.bytes for file in data.manifest.every_file)
                found.append(Holder(path, count, size, path in named))
    return found


def _texts(data: Dataset, removals: Sequence[Removal]) -> int:
    return sum(int(np.count_nonzero(removed_of(part, removals) >= 0)) for part in data.parts)


def _tokens(storage: Storage, data: Dataset, removals: Sequence[Removal]) -> int | None:
    gone = removed_ids(storage, data, removals)
    if gone is None:
        return None
    names = pa.array(list(gone), pa.string())
    return sum(
        int(pc.sum(pc.is_in(part.table(["id"])["id"], value_set=names)).as_py() or 0)
        for part in data.parts
    )
