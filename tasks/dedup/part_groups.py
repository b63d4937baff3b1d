"""Blocks: consecutive parts whose keys are read together; the unit of work on the side of parts."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from infra.dataset.dataset import Dataset, PartRef
from infra.removals.match import Removal, removed_of
from tasks.dedup.config import Scope
from tasks.dedup.minhash.shingle_readers import languages
from tasks.dedup.minhash.signatures import band_column
from tasks.dedup.minhash.sketch import DIGEST

U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Piece:
    """One part of the documents with what is known of it.

    Attributes:
        number: its place among all parts.
        start: the number of its first document; documents are numbered through all parts.
        documents: the texts.
        keys: their signatures, row-aligned.
        notes: its annotations, where the recipe needs them.
        source: its source's place in the recipe.
    """

    number: int
    start: int
    documents: PartRef
    keys: PartRef
    notes: PartRef | None = None
    source: int = 0


@dataclass(frozen=True)
class Block:
    """Some consecutive pieces; picklable.

    Attributes:
        index: its place among the blocks.
        pieces: at least one.
        scope: where copies are looked for.
        removals: documents that are to be treated as if they had never been.
    """

    index: int
    pieces: tuple[Piece, ...]
    scope: Scope = "global"
    removals: tuple[Removal, ...] = ()

    @property
    def start(self) -> int:
        """The number of its first document."""
        return self.pieces[0].start

    @property
    def rows(self) -> int:
        """Its documents."""
        return sum(piece.documents.rows for piece in self.pieces)

    def digests(self) -> U64:
        """The digests of the normalised texts, kept apart by scope: uint64[rows, 2]."""
        tables = [piece.keys.table(["exact"])["exact"] for piece in self.pieces]
        halves = _fixed(tables, DIGEST).view(">u8").astype(np.uint64)
        return halves ^ self.salts()[:, None]

    def sketches(self, rows: I64) -> U8:
        """The packed signatures of some rows: uint8[n, bytes]."""
        tables = [piece.keys.table(["sketch"])["sketch"] for piece in self.pieces]
        packed = _fixed(tables, tables[0].type.byte_width)
        return packed[rows]

    def shingles(self) -> I64:
        """Shingles of each text: int64[rows]."""
        return self._numbers("shingles").astype(np.int64)

    def keys(self, bands: int) -> list[U64]:
        """The keys of each band, kept apart by scope: uint64[rows] each."""
        columns = [band_column(band) for band in range(bands)]
        tables = [piece.keys.table(columns) for piece in self.pieces]
        salts = self.salts()
        return [
            np.concatenate([table[column].to_numpy() for table in tables]) ^ salts
            for column in columns
        ]

    def sources(self) -> U64:
        """The place of each document's source in the recipe: uint64[rows]."""
        places = [np.full(p.documents.rows, p.source, np.uint64) for p in self.pieces]
        return np.concatenate(places)

    def present(self) -> Flags:
        """Which documents are not removed: bool[rows]."""
        if not self.removals:
            return np.ones(self.rows, bool)
        return np.concatenate([removed_of(p.documents, self.removals) < 0 for p in self.pieces])

    def salts(self) -> U64:
        """A number per document that is the same within a scope: uint64[rows]; 0 if global."""
        if self.scope == "global":
            return np.zeros(self.rows, np.uint64)
        return np.concatenate([self._salts(piece) for piece in self.pieces])

    def _salts(self, piece: Piece) -> U64:
        if self.scope == "source":
            return np.full(piece.documents.rows, _salt(str(piece.documents.source)), np.uint64)
        if self.scope == "segment":
            return _salted(piece.documents.table(["segment"])["segment"])
        found = languages(piece.documents, piece.notes)
        if found is None:
            raise ValueError("the scope language needs annotations")
        return _salted(pa.chunked_array([pa.array(found, pa.string())]))

    def _numbers(self, column: str) -> npt.NDArray[np.generic]:
        return np.concatenate([p.keys.table([column])[column].to_numpy() for p in self.pieces])


def blocks(
    documents: Sequence[Dataset],
    keys: Sequence[Dataset],
    notes: Sequence[Dataset],
    *,
    rows: int,
    scope: Scope,
    removals: Sequence[Removal],
) -> list[Block]:
    """Cut all parts into blocks of about ``rows`` documents, in the order of the sources."""
    texts = [(place, part) for place, data in enumerate(documents) for part in data.parts]
    marks = [part for data in keys for part in data.parts]
    said: list[PartRef | None] = [part for data in notes for part in data.parts]
    out: list[Block] = []
    pieces: list[Piece] = []
    start = 0
    for number, ((place, text), key) in enumerate(zip(texts, marks, strict=True)):
        noted = said[number] if said else None
        pieces.append(Piece(number, start, text, key, noted, place))
        start += text.rows
        if start - pieces[0].start >= rows:
            out.append(Block(len(out), tuple(pieces), scope, tuple(removals)))
            pieces = []
    if pieces:
        out.append(Block(len(out), tuple(pieces), scope, tuple(removals)))
    return out


def _fixed(columns: Sequence[pa.ChunkedArray], width: int) -> U8:
    """Columns of fixed-size binary as bytes: uint8[n, width]."""
    found = [np.zeros((0, width), np.uint8)]
    for column in columns:
        for chunk in column.chunks:
            data = np.frombuffer(chunk.buffers()[1], np.uint8)
            found.append(data.reshape(-1, width)[chunk.offset : chunk.offset + len(chunk)])
    return np.concatenate(found)


def _salted(column: pa.ChunkedArray) -> U64:
    coded = pc.dictionary_encode(column.fill_null("")).combine_chunks()
    values = np.array([_salt(value) for value in coded.dictionary.to_pylist()], np.uint64)
    return values[coded.indices.to_numpy()] if len(values) else np.zeros(0, np.uint64)


def _salt(value: str) -> int:
    raw = hashlib.blake2b(value.encode(), digest_size=8, person=b"dedup-scope").digest()
    return int.from_bytes(raw, "little")
