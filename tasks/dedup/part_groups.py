"""Part groups: consecutive parts whose signatures are read together in one task."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.compute.arrays import I64, U8, U64, Bools
from infra.dataset.dataset import Dataset, PartRef
from infra.minhash.sketch import DIGEST_BYTES
from infra.removals.match import Removal, match_part
from tasks.dedup.config import Scope
from tasks.dedup.shingle_readers import load_languages
from tasks.dedup.signatures import band_column


@dataclass(frozen=True)
class PartInfo:
    """One part of the documents with its signatures and annotations.

    Attributes:
        index: its index among all parts.
        start: number of its first document; documents are numbered through all parts.
        documents: the texts.
        signatures: their signatures, row-aligned.
        annotations: their annotations, if the recipe needs them.
        source_index: index of its source in the recipe.
    """

    index: int
    start: int
    documents: PartRef
    signatures: PartRef
    annotations: PartRef | None = None
    source_index: int = 0


@dataclass(frozen=True)
class PartGroup:
    """Consecutive parts. Picklable.

    Attributes:
        index: its index among the part groups.
        parts: at least one.
        scope: where duplicates are searched for.
        removals: documents to be treated as absent.
    """

    index: int
    parts: tuple[PartInfo, ...]
    scope: Scope = "global"
    removals: tuple[Removal, ...] = ()

    @property
    def start(self) -> int:
        """Number of its first document."""
        return self.parts[0].start

    @property
    def rows(self) -> int:
        """Number of its documents."""
        return sum(part.documents.num_rows for part in self.parts)

    def row_of(self, documents: U64) -> I64:
        """Return the row within the group of each document number."""
        rows: I64 = (documents - np.uint64(self.start)).astype(np.int64)
        return rows

    def digests(self) -> U64:
        """Return the digests of the normalized texts, made distinct by scope: uint64[rows, 2]."""
        columns = [part.signatures.table(["exact"])["exact"] for part in self.parts]
        halves = _fixed_binary_to_bytes(columns, DIGEST_BYTES).view(">u8").astype(np.uint64)
        return halves ^ self.salts()[:, None]

    def b_bit_signatures(self, rows: I64) -> U8:
        """Return the b-bit signatures of some rows: uint8[n, bytes]."""
        columns = [
            part.signatures.table(["b_bit_signature"])["b_bit_signature"] for part in self.parts
        ]
        packed = _fixed_binary_to_bytes(columns, columns[0].type.byte_width)
        return packed[rows]

    def shingle_counts(self) -> I64:
        """Return the number of shingles of each text: int64[rows]."""
        columns = [part.signatures.table(["shingles"])["shingles"] for part in self.parts]
        return np.concatenate([column.to_numpy() for column in columns]).astype(np.int64)

    def band_keys(self, bands: int) -> list[U64]:
        """Return the keys of each band, made distinct by scope: uint64[rows] each."""
        columns = [band_column(band) for band in range(bands)]
        tables = [part.signatures.table(columns) for part in self.parts]
        salts = self.salts()
        return [
            np.concatenate([table[column].to_numpy() for table in tables]) ^ salts
            for column in columns
        ]

    def source_indices(self) -> U64:
        """Return the index of each document's source in the recipe: uint64[rows]."""
        return np.concatenate(
            [np.full(p.documents.num_rows, p.source_index, np.uint64) for p in self.parts]
        )

    def present(self) -> Bools:
        """Return which documents are not removed: bool[rows]."""
        if not self.removals:
            return np.ones(self.rows, bool)
        return np.concatenate([match_part(p.documents, self.removals) < 0 for p in self.parts])

    def salts(self) -> U64:
        """Return a number per document that is equal within a scope: uint64[rows]; 0 if global."""
        if self.scope == "global":
            return np.zeros(self.rows, np.uint64)
        return np.concatenate([self._part_salts(part) for part in self.parts])

    def _part_salts(self, part: PartInfo) -> U64:
        if self.scope == "source":
            salt = _hash_scope(str(part.documents.source))
            return np.full(part.documents.num_rows, salt, np.uint64)
        if self.scope == "segment":
            return _salt_column(part.documents.table(["segment"])["segment"])
        languages = load_languages(part.documents, part.annotations)
        if languages is None:
            raise ValueError("the scope language needs annotations")
        return _salt_column(pa.chunked_array([pa.array(languages, pa.string())]))


def group_parts(
    documents: Sequence[Dataset],
    signatures: Sequence[Dataset],
    annotations: Sequence[Dataset],
    *,
    rows: int,
    scope: Scope,
    removals: Sequence[Removal],
) -> list[PartGroup]:
    """Split all parts into groups of about ``rows`` documents, in the order of the sources."""
    texts = [(index, part) for index, data in enumerate(documents) for part in data.parts]
    keys = [part for data in signatures for part in data.parts]
    annotated: Sequence[PartRef | None] = [part for data in annotations for part in data.parts]
    groups: list[PartGroup] = []
    parts: list[PartInfo] = []
    start = 0
    for number, ((source_index, text), key) in enumerate(zip(texts, keys, strict=True)):
        columns = annotated[number] if annotated else None
        parts.append(PartInfo(number, start, text, key, columns, source_index))
        start += text.num_rows
        if start - parts[0].start >= rows:
            groups.append(PartGroup(len(groups), tuple(parts), scope, tuple(removals)))
            parts = []
    if parts:
        groups.append(PartGroup(len(groups), tuple(parts), scope, tuple(removals)))
    return groups


def _fixed_binary_to_bytes(columns: Sequence[pa.ChunkedArray], width: int) -> U8:
    """Return columns of fixed-size binary as bytes: uint8[n, width]."""
    arrays = [np.zeros((0, width), np.uint8)]
    for column in columns:
        for chunk in column.chunks:
            data = np.frombuffer(chunk.buffers()[1], np.uint8)
            arrays.append(data.reshape(-1, width)[chunk.offset : chunk.offset + len(chunk)])
    return np.concatenate(arrays)


def _salt_column(column: pa.ChunkedArray) -> U64:
    coded = pc.dictionary_encode(column.fill_null("")).combine_chunks()
    values = np.array([_hash_scope(value) for value in coded.dictionary.to_pylist()], np.uint64)
    return values[coded.indices.to_numpy()] if len(values) else np.zeros(0, np.uint64)


def _hash_scope(value: str) -> int:
    raw = hashlib.blake2b(value.encode(), digest_size=8, person=b"dedup-scope").digest()
    return int.from_bytes(raw, "little")
