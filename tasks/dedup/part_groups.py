"""Blocks: consecutive parts whose keys are read together; the unit of work on the side of parts."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from infra.dataset.dataset import Dataset, PartRef
from infra.removals.match import Removal, match_part
from tasks.dedup.config import Scope
from tasks.dedup.minhash.shingle_readers import load_languages
from tasks.dedup.minhash.signatures import band_column
from tasks.dedup.minhash.sketch import DIGEST_BYTES

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PartInfo:
    """One part of the documents with what is known of it.

    Attributes:
        index: its place among all parts.
        start: the number of its first document; documents are numbered through all parts.
        documents: the texts.
        signatures: their signatures, row-aligned.
        annotations: its annotations, where the recipe needs them.
        source_index: its source's place in the recipe.
    """

    index: int
    start: int
    documents: PartRef
    signatures: PartRef
    annotations: PartRef | None = None
    source_index: int = 0


@dataclass(frozen=True)
class PartGroup:
    """Some consecutive pieces; picklable.

    Attributes:
        index: its place among the blocks.
        parts: at least one.
        scope: where copies are looked for.
        removals: documents that are to be treated as if they had never been.
    """

    index: int
    parts: tuple[PartInfo, ...]
    scope: Scope = "global"
    removals: tuple[Removal, ...] = ()

    @property
    def start(self) -> int:
        """The number of its first document."""
        return self.parts[0].start

    @property
    def rows(self) -> int:
        """Its documents."""
        return sum(piece.documents.num_rows for piece in self.parts)

    def digests(self) -> U64:
        """The digests of the normalised texts, kept apart by scope: uint64[rows, 2]."""
        tables = [piece.signatures.table(["exact"])["exact"] for piece in self.parts]
        halves = _fixed_binary_to_bytes(tables, DIGEST_BYTES).view(">u8").astype(np.uint64)
        return halves ^ self.salts()[:, None]

    def packed_signatures(self, rows: I64) -> U8:
        """The packed signatures of some rows: uint8[n, bytes]."""
        tables = [piece.signatures.table(["sketch"])["sketch"] for piece in self.parts]
        packed = _fixed_binary_to_bytes(tables, tables[0].type.byte_width)
        return packed[rows]

    def shingle_counts(self) -> I64:
        """Shingles of each text: int64[rows]."""
        return self._signature_column("shingles").astype(np.int64)

    def band_keys(self, bands: int) -> list[U64]:
        """The keys of each band, kept apart by scope: uint64[rows] each."""
        columns = [band_column(band) for band in range(bands)]
        tables = [piece.signatures.table(columns) for piece in self.parts]
        salts = self.salts()
        return [
            np.concatenate([table[column].to_numpy() for table in tables]) ^ salts
            for column in columns
        ]

    def source_indices(self) -> U64:
        """The place of each document's source in the recipe: uint64[rows]."""
        places = [np.full(p.documents.num_rows, p.source_index, np.uint64) for p in self.parts]
        return np.concatenate(places)

    def present(self) -> Flags:
        """Which documents are not removed: bool[rows]."""
        if not self.removals:
            return np.ones(self.rows, bool)
        return np.concatenate([match_part(p.documents, self.removals) < 0 for p in self.parts])

    def salts(self) -> U64:
        """A number per document that is the same within a scope: uint64[rows]; 0 if global."""
        if self.scope == "global":
            return np.zeros(self.rows, np.uint64)
        return np.concatenate([self._part_salts(piece) for piece in self.parts])

    def _part_salts(self, part: PartInfo) -> U64:
        if self.scope == "source":
            return np.full(
                part.documents.num_rows, _hash_scope(str(part.documents.source)), np.uint64
            )
        if self.scope == "segment":
            return _salt_column(part.documents.table(["segment"])["segment"])
        found = load_languages(part.documents, part.annotations)
        if found is None:
            raise ValueError("the scope language needs annotations")
        return _salt_column(pa.chunked_array([pa.array(found, pa.string())]))

    def _signature_column(self, column: str) -> npt.NDArray[np.generic]:
        return np.concatenate([p.signatures.table([column])[column].to_numpy() for p in self.parts])


def group_parts(
    documents: Sequence[Dataset],
    signatures: Sequence[Dataset],
    annotations: Sequence[Dataset],
    *,
    rows: int,
    scope: Scope,
    removals: Sequence[Removal],
) -> list[PartGroup]:
    """Cut all parts into blocks of about ``rows`` documents, in the order of the sources."""
    texts = [(place, part) for place, data in enumerate(documents) for part in data.parts]
    marks = [part for data in signatures for part in data.parts]
    said: list[PartRef | None] = [part for data in annotations for part in data.parts]
    out: list[PartGroup] = []
    pieces: list[PartInfo] = []
    start = 0
    for number, ((place, text), key) in enumerate(zip(texts, marks, strict=True)):
        noted = said[number] if said else None
        pieces.append(PartInfo(number, start, text, key, noted, place))
        start += text.num_rows
        if start - pieces[0].start >= rows:
            out.append(PartGroup(len(out), tuple(pieces), scope, tuple(removals)))
            pieces = []
    if pieces:
        out.append(PartGroup(len(out), tuple(pieces), scope, tuple(removals)))
    return out


def _fixed_binary_to_bytes(columns: Sequence[pa.ChunkedArray], width: int) -> U8:
    """Columns of fixed-size binary as bytes: uint8[n, width]."""
    found = [np.zeros((0, width), np.uint8)]
    for column in columns:
        for chunk in column.chunks:
            data = np.frombuffer(chunk.buffers()[1], np.uint8)
            found.append(data.reshape(-1, width)[chunk.offset : chunk.offset + len(chunk)])
    return np.concatenate(found)


def _salt_column(column: pa.ChunkedArray) -> U64:
    coded = pc.dictionary_encode(column.fill_null("")).combine_chunks()
    values = np.array([_hash_scope(value) for value in coded.dictionary.to_pylist()], np.uint64)
    return values[coded.indices.to_numpy()] if len(values) else np.zeros(0, np.uint64)


def _hash_scope(value: str) -> int:
    raw = hashlib.blake2b(value.encode(), digest_size=8, person=b"dedup-scope").digest()
    return int.from_bytes(raw, "little")
