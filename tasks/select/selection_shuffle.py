"""Where the elections of a selection pass, and which documents of a part may stand in them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from infra.compute.shuffle import Exchange
from infra.removals.match import Removal, removed_of
from infra.store.storage import Storage
from tasks.select.config import Gates
from tasks.select.rank import ranks, signals
from tasks.select.rules import columns, judge
from tasks.select.write_part import Triple

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
DIGITS = 4  # hexadecimal digits of a cluster's name that choose its partition


@dataclass(frozen=True)
class Poll:
    """Where the rows of the elections pass; picklable.

    Attributes:
        work: a folder of its own.
        partitions: of clusters; a power of two, at most 16**`DIGITS`.
        starts: the number of the first document of each part, and the number of all.
        order: the recipe's order of preference.
        addresses: partitions of addresses; 0 if any number of documents may share one.
    """

    work: Storage
    partitions: int
    starts: tuple[int, ...]
    order: tuple[str, ...]
    addresses: int = 0

    @property
    def candidates(self) -> Exchange:
        """From parts to partitions."""
        return Exchange(self.work.at("candidates"), self.partitions, 1)

    @property
    def pairs(self) -> Exchange:
        """From files of pairs to partitions."""
        return Exchange(self.work.at("pairs"), self.partitions, 1)

    @property
    def parts(self) -> range:
        """The numbers of the parts."""
        return range(len(self.starts) - 1)

    @property
    def versions(self) -> Exchange:
        """From parts to partitions of addresses."""
        return Exchange(self.work.at("versions"), self.addresses, 1)

    @property
    def address_losses(self) -> Exchange:
        """From partitions of addresses to parts."""
        return Exchange(self.work.at("address-losses"), len(self.parts), 1)

    @property
    def address_survivors(self) -> Exchange:
        """From partitions of addresses to parts: the versions that others are dropped for."""
        return Exchange(self.work.at("address-survivors"), len(self.parts), 1)

    @property
    def survivors(self) -> Exchange:
        """From partitions to parts: the documents that others are dropped for."""
        return Exchange(self.work.at("survivors"), len(self.parts), 1)

    @property
    def losses(self) -> Exchange:
        """From partitions to parts."""
        return Exchange(self.work.at("losses"), len(self.parts), 1)

    def place(self, clusters: pa.ChunkedArray) -> I64:
        """The partition of each cluster."""
        heads = pc.dictionary_encode(pc.utf8_slice_codeunits(clusters, 0, DIGITS)).combine_chunks()
        if not len(heads):
            return np.zeros(0, np.int64)
        values = np.array([int(head, 16) for head in heads.dictionary.to_pylist()], np.int64)
        found: I64 = values[heads.indices.to_numpy()] % self.partitions
        return found


@dataclass(frozen=True)
class Standing:
    """What an election asks of the n documents of a part.

    Attributes:
        documents: n rows: ``id``, ``url``, ``date``.
        gone: int32[n], the removal that takes each; -1 for none.
        passed: bool[n], whether the rules let it stand; one that was taken out never stands.
        order: float64[n, keys], what the recipe prefers, smaller first.
    """

    documents: pa.Table
    gone: npt.NDArray[np.int32]
    passed: Flags
    order: F64


def standing(poll: Poll, triple: Triple, gates: Gates, removals: Sequence[Removal]) -> Standing:
    """Apply the rules to a part."""
    notes = triple.notes.table(sorted({*columns(gates), *signals(poll.order)}))
    noted = np.arange(triple.documents.rows) if triple.rows is None else triple.rows
    gone = removed_of(triple.documents, removals)
    documents = triple.documents.table(["id", "url", "date"])
    passed = np.zeros(triple.documents.rows, bool)
    passed[noted] = judge(notes, gates).passed & (gone[noted] < 0)
    order = np.zeros((triple.documents.rows, len(poll.order)))
    order[noted] = ranks(poll.order, triple.source, documents.take(noted), notes)
    return Standing(documents, gone, passed, order)
