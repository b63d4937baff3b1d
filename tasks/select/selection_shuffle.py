"""Where the elections of a selection pass, and which documents of a part may stand in them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from infra.compute.shuffle import Shuffle
from infra.removals.match import Removal, match_part
from infra.store.storage import Storage
from tasks.select.config import SourceFilters
from tasks.select.rank import rank_keys, required_signals
from tasks.select.rules import apply_rules, required_columns
from tasks.select.write_part import PartInputs

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
PREFIX_DIGITS = 4  # hexadecimal digits of a cluster's name that choose its partition


@dataclass(frozen=True)
class SelectionShuffle:
    """Where the rows of the elections pass; picklable.

    Attributes:
        work: a folder of its own.
        partitions: of clusters; a power of two, at most 16**`PREFIX_DIGITS`.
        part_offsets: the number of the first document of each part, and the number of all.
        prefer: the recipe's order of preference.
        url_partitions: partitions of addresses; 0 if any number of documents may share one.
    """

    work: Storage
    partitions: int
    part_offsets: tuple[int, ...]
    prefer: tuple[str, ...]
    url_partitions: int = 0

    @property
    def candidates(self) -> Shuffle:
        """From parts to partitions."""
        return Shuffle(self.work.subdir("candidates"), self.partitions, 1)

    @property
    def pairs(self) -> Shuffle:
        """From files of pairs to partitions."""
        return Shuffle(self.work.subdir("pairs"), self.partitions, 1)

    @property
    def parts(self) -> range:
        """The numbers of the parts."""
        return range(len(self.part_offsets) - 1)

    @property
    def url_candidates(self) -> Shuffle:
        """From parts to partitions of addresses."""
        return Shuffle(self.work.subdir("url_candidates"), self.url_partitions, 1)

    @property
    def url_dropped(self) -> Shuffle:
        """From partitions of addresses to parts."""
        return Shuffle(self.work.subdir("url_dropped"), len(self.parts), 1)

    @property
    def url_survivors(self) -> Shuffle:
        """From partitions of addresses to parts: the versions that others are dropped for."""
        return Shuffle(self.work.subdir("url_survivors"), len(self.parts), 1)

    @property
    def survivors(self) -> Shuffle:
        """From partitions to parts: the documents that others are dropped for."""
        return Shuffle(self.work.subdir("survivors"), len(self.parts), 1)

    @property
    def dropped(self) -> Shuffle:
        """From partitions to parts."""
        return Shuffle(self.work.subdir("dropped"), len(self.parts), 1)

    def partition_of(self, clusters: pa.ChunkedArray) -> I64:
        """The partition of each cluster."""
        heads = pc.dictionary_encode(
            pc.utf8_slice_codeunits(clusters, 0, PREFIX_DIGITS)
        ).combine_chunks()
        if not len(heads):
            return np.zeros(0, np.int64)
        values = np.array([int(head, 16) for head in heads.dictionary.to_pylist()], np.int64)
        found: I64 = values[heads.indices.to_numpy()] % self.partitions
        return found


@dataclass(frozen=True)
class Eligibility:
    """What an election asks of the n documents of a part.

    Attributes:
        documents: n rows: ``id``, ``url``, ``date``.
        removal_index: int32[n], the removal that takes each; -1 for none.
        eligible: bool[n], whether the rules let it stand; one that was taken out never stands.
        rank_keys: float64[n, keys], what the recipe prefers, smaller first.
    """

    documents: pa.Table
    removal_index: npt.NDArray[np.int32]
    eligible: Flags
    rank_keys: F64


def check_eligibility(
    shuffle: SelectionShuffle,
    inputs: PartInputs,
    filters: SourceFilters,
    removals: Sequence[Removal],
) -> Eligibility:
    """Apply the rules to a part."""
    notes = inputs.annotations.table(
        sorted({*required_columns(filters), *required_signals(shuffle.prefer)})
    )
    noted = (
        np.arange(inputs.documents.num_rows)
        if inputs.annotated_rows is None
        else inputs.annotated_rows
    )
    gone = match_part(inputs.documents, removals)
    documents = inputs.documents.table(["id", "url", "date"])
    passed = np.zeros(inputs.documents.num_rows, bool)
    passed[noted] = apply_rules(notes, filters).passed & (gone[noted] < 0)
    order = np.zeros((inputs.documents.num_rows, len(shuffle.prefer)))
    order[noted] = rank_keys(shuffle.prefer, inputs.source_index, documents.take(noted), notes)
    return Eligibility(documents, gone, passed, order)
