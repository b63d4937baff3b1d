"""Which documents of a recipe were removed: a source that is named to others must not be one of them."""

from collections.abc import Sequence

import pyarrow as pa

from infra.errors import UserError
from infra.removals.log import load_removals
from infra.removals.match import MATCH_COLUMNS, Removal, match_table
from infra.store.storage import Storage
from infra.suffix_array.source_index import Occurrence


class RemovedDocuments:
    """The active removals of a recipe, as they were when they were last read."""

    def __init__(self, storage: Storage, recipe: str) -> None:
        """Nothing is read yet.

        Args:
            storage: the root of the store.
            recipe: its name.
        """
        self._storage, self._recipe = storage, recipe
        self._removals: Sequence[Removal] = ()
        self._error: UserError | None = None

    def refresh(self) -> None:
        """Read the log of removals again; one that cannot be understood is an error of every later question."""
        try:
            self._removals, self._error = load_removals(self._storage, self._recipe), None
        except UserError as error:
            self._error = error

    def without_removed(self, occurrences: Sequence[Occurrence]) -> list[Occurrence]:
        """Return the occurrences in documents that were not removed.

        Raises:
            CorruptRemovalLogError: if it is not known which were.
        """
        if self._error is not None:
            raise self._error
        if not self._removals or not occurrences:
            return list(occurrences)
        columns = {name: [item.document[name] for item in occurrences] for name in MATCH_COLUMNS}
        types = pa.schema([(name, pa.string()) for name in MATCH_COLUMNS])
        matches = match_table(pa.table(columns, schema=types), self._removals)
        return [item for item, match in zip(occurrences, matches, strict=True) if match < 0]
