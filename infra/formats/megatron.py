r"""Token shards in Megatron-LM's indexed layout, and the document of each token.

A shard is two files. ``.bin`` contains the tokens of all sequences, one after the other.
``.idx`` contains, little endian: 9 bytes ``MMIDIDX\0\0``, uint64 version (1), uint8 code of the token type,
uint64 number of sequences S, uint64 number of document indices D, int32[S] tokens per sequence,
int64[S] byte offset of each sequence in ``.bin``, int64[D] first sequence of each document and
one past the last (Megatron-LM, ``megatron/core/datasets/indexed_dataset.py``).

Here every document is one sequence, so D = S + 1.
"""

import struct
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.manifest import TABLE_SUFFIX, IntegrityError
from infra.errors import UserError
from infra.store.block_cache import BLOCK_BYTES, CACHE_BYTES, Block, BlockCache
from infra.store.cache_dir import cache_root

TRAIN, VALIDATION = "train", "validation"
SPLITS = (TRAIN, VALIDATION)

MAGIC, VERSION = b"MMIDIDX\x00\x00", 1
HEADER = struct.Struct("<9sQBQQ")
# The two of Megatron's codes that shards use.
DTYPES: dict[int, np.dtype[Any]] = {4: np.dtype("<i4"), 8: np.dtype("<u2")}
CODES = {dtype: code for code, dtype in DTYPES.items()}
REPAIR_HINT = "remove the data set's folder; the next run creates it again"
MAX_UINT16_VOCAB = 65_500  # below it ids are 16 bit; Megatron's own limit

Tokens = npt.NDArray[np.integer[Any]]
Positions = npt.NDArray[np.int64]


class CorruptShardError(UserError):
    """A shard that is missing or invalid, or whose two files do not match."""


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The type of ids below ``vocab_size``: uint16 below 65,500, else int32."""
    return DTYPES[8] if vocab_size < MAX_UINT16_VOCAB else DTYPES[4]


def encode_index(lengths: Sequence[int], dtype: np.dtype[Any]) -> bytes:
    """An ``.idx`` file for sequences of these lengths (tokens), each of them one document."""
    sizes = np.asarray(lengths, dtype=np.int64)
    pointers = np.zeros(len(sizes), dtype="<i8")
    np.cumsum(sizes[:-1] * dtype.itemsize, out=pointers[1:])
    header = HEADER.pack(MAGIC, VERSION, CODES[dtype], len(sizes), len(sizes) + 1)
    documents = np.arange(len(sizes) + 1, dtype="<i8")
    return b"".join(
        (header, sizes.astype("<i4").tobytes(), pointers.tobytes(), documents.tobytes())
    )


@dataclass(frozen=True)
class ShardIndex:
    """The content of an ``.idx`` file.

    Attributes:
        dtype: type of the ids in ``.bin``.
        sequence_lengths: int32[S] tokens per sequence.
        sequence_pointers: int64[S] byte offset of each sequence.
        document_indices: int64[D] first sequence of each document, then S.
    """

    dtype: np.dtype[Any]
    sequence_lengths: npt.NDArray[np.int32]
    sequence_pointers: Positions
    document_indices: Positions


def decode_index(data: bytes) -> ShardIndex:
    """Read an ``.idx`` file. Raises ``CorruptShardError``."""
    if len(data) < HEADER.size:
        raise CorruptShardError(f"{len(data)} bytes are not an index")
    magic, version, code, sequences, documents = HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION or code not in DTYPES:
        raise CorruptShardError(f"magic {magic!r}, version {version}, token type {code}")
    if len(data) < HEADER.size + 12 * sequences + 8 * documents:
        raise CorruptShardError(f"truncated at {len(data)} bytes")
    at = HEADER.size
    lengths = np.frombuffer(data, "<i4", sequences, at)
    pointers = np.frombuffer(data, "<i8", sequences, at + 4 * sequences)
    bounds = np.frombuffer(data, "<i8", documents, at + 12 * sequences)
    return ShardIndex(DTYPES[code], lengths, pointers, bounds)


class TokenShards:
    """All tokens of one split as one sequence: the parts' shards in order, memory-mapped.

    Shards of a remote store are read on demand, in blocks, into a cache on this machine.

    Attributes:
        document_starts: int64[documents + 1]; document i is ``[starts[i], starts[i + 1])``.
        extent_starts: int64[extents + 1]; extent k is ``[starts[k], starts[k + 1])``: a local
            shard, or a block of a remote one.
        blocks: the block of each extent, ``None`` where the shard is local.
        cache: the cache of the blocks.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        cache: Path | None = None,
        max_cache_bytes: int = CACHE_BYTES,
    ) -> None:
        """Open every part's shard of ``split``.

        Args:
            dataset: token shards, as ``tokenize`` commits them.
            split: ``train`` or ``validation``.
            cache: folder for blocks of remote shards; default: one in this user's cache.
            max_cache_bytes: bytes of the cache.

        Raises:
            CorruptShardError: if a shard is missing, or its index is invalid or does not match it.
        """
        self.dataset, self.split = dataset, split
        self.cache = BlockCache(cache or cache_root() / "tokens", max_cache_bytes)
        self._parts = [part for part in dataset.parts if f"{split}.bin" in part.record.files]
        self.blocks: list[Block | None] = []
        self._files: list[tuple[Path | None, np.dtype[Any]]] = []
        self._extents: dict[int, Tokens] = {}
        lengths, sizes = [np.zeros(0, np.int64)], []
        for part in self._parts:
            index = self._read_index(part)
            lengths.append(index.sequence_lengths.astype(np.int64))
            sizes += self._add_extents(part, index.dtype, int(lengths[-1].sum()))
        self.document_starts = _bounds(np.concatenate(lengths))
        self.extent_starts = _bounds(np.array(sizes, np.int64))

    def _read_index(self, part: PartRef) -> ShardIndex:
        name = part.file(f"{self.split}.idx")
        try:
            return decode_index(part.storage.read(name))
        except FileNotFoundError:
            raise CorruptShardError(
                f"{part.storage.url}/{name} is missing; {REPAIR_HINT}"
            ) from None
        except CorruptShardError as error:
            raise CorruptShardError(f"{part.storage.url}/{name}: {error}; {REPAIR_HINT}") from None

    def _add_extents(self, part: PartRef, dtype: "np.dtype[Any]", tokens: int) -> list[int]:
        """Add the extents in which a part's shard is read; return the tokens of each."""
        file = part.record.files[f"{self.split}.bin"]
        path, where = part.storage.local_path(file.name), f"{part.storage.url}/{file.name}"
        if path is not None and not path.exists():
            raise CorruptShardError(f"{where} is missing; {REPAIR_HINT}")
        actual = (file.bytes if path is None else path.stat().st_size) // dtype.itemsize
        if actual != tokens:
            raise CorruptShardError(
                f"{where} has {actual} tokens, its index {tokens}; {REPAIR_HINT}"
            )
        if path is not None:
            self.blocks.append(None)
            self._files.append((path, dtype))
            return [tokens]
        bounds = [*range(0, tokens * dtype.itemsize, BLOCK_BYTES), tokens * dtype.itemsize]
        for start, end in pairwise(bounds):
            self.blocks.append(Block(part.storage, file.name, file.sha256, start, end))
            self._files.append((None, dtype))
        return [(end - start) // dtype.itemsize for start, end in pairwise(bounds)]

    def extent(self, index: int) -> Tokens:
        """The tokens of an extent, memory-mapped; a block that is not cached is fetched first."""
        tokens = self._extents.get(index)
        if tokens is None:
            path, dtype = self._files[index]
            block = self.blocks[index]
            if block is not None:
                tokens = self._map_block(block, dtype)
            else:
                tokens = np.asarray(np.memmap(path, dtype=dtype, mode="r"))  # type: ignore[call-overload]
            self._extents[index] = tokens
        return tokens

    def _map_block(self, block: Block, dtype: "np.dtype[Any]") -> Tokens:
        while True:
            with suppress(FileNotFoundError):  # another process evicted it: fetch it again
                path = self.cache.get(block)
                return np.asarray(np.memmap(path, dtype=dtype, mode="r"))

    def unmap(self, keep: AbstractSet[int]) -> None:
        """Unmap all blocks except those of these extents."""
        for number in list(self._extents):  # another thread may open one meanwhile
            if self.blocks[number] is not None and number not in keep:
                self._extents.pop(number, None)

    @property
    def dtype(self) -> "np.dtype[Any]":
        """The type of the ids."""
        return self._files[0][1] if self._files else DTYPES[8]

    def __len__(self) -> int:
        """The total number of tokens."""
        return int(self.extent_starts[-1])

    @property
    def num_documents(self) -> int:
        """Number of documents."""
        return len(self.document_starts) - 1

    def read(self, start: int, length: int) -> Tokens:
        """Tokens ``[start, start + length)``, across the ends of shards.

        Raises:
            IndexError: if the window exceeds the split.
        """
        stop = start + length
        if start < 0 or length < 0 or stop > len(self):
            raise IndexError(f"tokens [{start}, {stop}) of {len(self)}")
        if length == 0:
            return np.zeros(0, np.uint16)
        first = int(np.searchsorted(self.extent_starts, start, side="right")) - 1
        pieces = []
        while start < stop:
            base, end = int(self.extent_starts[first]), int(self.extent_starts[first + 1])
            pieces.append(self.extent(first)[start - base : min(stop, end) - base])
            start, first = min(stop, end), first + 1
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def copy_spans(
        self,
        out: Positions,
        rows: Positions,
        columns: Positions,
        starts: Positions,
        lengths: Positions,
    ) -> None:
        """Copy runs of tokens into a batch, in place.

        Args:
            out: int64[n, width].
            rows: int64[p], the row of each run.
            columns: int64[p], its first column.
            starts: int64[p], its first token.
            lengths: int64[p], its tokens.

        Raises:
            IndexError: if a run exceeds the split.
        """
        extents = np.searchsorted(self.extent_starts, starts, side="right") - 1
        fits = starts + lengths <= self.extent_starts[np.minimum(extents, len(self.blocks) - 1) + 1]
        runs = (rows, columns, starts, lengths, extents, fits)
        bases = self.extent_starts.tolist()
        for row, column, start, length, extent, is_inside in zip(
            *(r.tolist() for r in runs), strict=True
        ):
            if is_inside and start >= 0:
                at = start - bases[extent]
                out[row, column : column + length] = self.extent(extent)[at : at + length]
            else:
                out[row, column : column + length] = self.read(start, length)

    def read_batch(self, starts: Sequence[int] | Positions, length: int) -> Positions:
        """A batch: int64[n, length], row i the tokens ``[starts[i], starts[i] + length)``."""
        at = np.asarray(starts, np.int64)
        batch = np.empty((len(at), length), np.int64)
        self.copy_spans(batch, np.arange(len(at)), np.zeros_like(at), at, np.full_like(at, length))
        return batch

    def document_at(self, position: int) -> int:
        """The index of the document that token ``position`` belongs to. Raises ``IndexError``."""
        if not 0 <= position < len(self):
            raise IndexError(f"token {position} of {len(self)}")
        return int(np.searchsorted(self.document_starts, position, side="right")) - 1

    def document_range(self, document: int) -> tuple[int, int]:
        """First token of a document and one past its last."""
        return int(self.document_starts[document]), int(self.document_starts[document + 1])

    def read_document(self, document: int) -> Tokens:
        """A document's tokens, its end-of-text included."""
        start, stop = self.document_range(document)
        return self.read(start, stop - start)

    @cached_property
    def table(self) -> pa.Table:
        """The documents' rows, row i document i: id, url, source, language, tokens, bytes, ..."""
        return self.read_columns(None)

    def read_columns(self, names: Sequence[str] | None) -> pa.Table:
        """Some columns of ``table``; ``None``: all."""
        tables = [table for _, table in self.iter_columns(names)]
        empty = pa.table({name: pa.array([], pa.string()) for name in names or ("id",)})
        return pa.concat_tables(tables) if tables else empty

    def iter_columns(self, names: Sequence[str] | None) -> Iterator[tuple[int, pa.Table]]:
        """Yield some columns of ``table`` part by part, each with the number of its first document."""
        wanted = None if names is None else [*names, "split"]
        first = 0
        for part in self._parts:
            table = self._read_rows(part, wanted)
            yield first, table
            first += table.num_rows

    def _read_rows(self, part: PartRef, names: Sequence[str] | None) -> pa.Table:
        try:
            table = part.table(names)
        except IntegrityError:
            raise CorruptShardError(
                f"{part.storage.url}/{part.file(TABLE_SUFFIX)} is missing or damaged; {REPAIR_HINT}"
            ) from None
        return table.filter(pc.equal(table["split"], self.split))

    @cached_property
    def ids(self) -> list[str]:
        """The documents' ids; element i is that of document i."""
        return [str(item) for item in self.read_columns(["id"])["id"].to_pylist()]

    def find_documents(self, document_id: str) -> list[int]:
        """The documents with this id: usually one; identical rows of a source have the same id."""
        return [index for index, item in enumerate(self.ids) if item == document_id]


def iter_split_parts(dataset: Dataset, split: str) -> Iterator[tuple[PartRef, int]]:
    """Yield the parts that hold tokens of a split, each with the number of tokens before it.

    Nothing is read: a shard's number of tokens follows from its length in bytes.
    """
    size = np.dtype(str(dataset.stats.get("dtype", "uint16"))).itemsize
    before = 0
    for part in dataset.parts:
        file = part.record.files.get(f"{split}.bin")
        if file is not None:
            yield part, before
            before += file.bytes // size


def read_split(part: PartRef, dtype: str, split: str) -> Tokens:
    """Read all tokens of a part that belong to a split, which it has.

    Raises:
        CorruptShardError: if the shard has not the length that was committed.
    """
    file = part.record.files[f"{split}.bin"]
    data = part.storage.read(file.name)
    if len(data) != file.bytes:
        raise CorruptShardError(
            f"{part.storage.url}/{file.name} has {len(data)} bytes, not {file.bytes}"
        )
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<"))


def _bounds(lengths: npt.NDArray[np.int64]) -> Positions:
    bounds = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=bounds[1:])
    return bounds
