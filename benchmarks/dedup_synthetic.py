"""Signatures of documents that were never written: any number of them, made in no time.

Document i has a signature drawn from i alone, so any part can be made by itself. One in ten takes
over four fifths or more of the values that an earlier document drew, one in fifty all of them and
the text.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.compute.jit import jit
from infra.dataset.dataset import PartRef
from infra.dataset.manifest import TABLE_SUFFIX, Counts, FileRecord, PartRecord
from infra.dataset.tables import table_bytes
from infra.store.storage import Storage
from tasks.dedup.config import DedupConfig
from tasks.dedup.signatures import signature_table

U64 = npt.NDArray[np.uint64]
U32 = npt.NDArray[np.uint32]
PART = 250_000  # documents
SHINGLES = 400  # of every document
SOURCE = "synthetic"


@jit
def splitmix64(value: np.uint64) -> np.uint64:
    """The finalizer of SplitMix64 (Steele, Lea, Flood: OOPSLA 2014)."""
    value = (value + np.uint64(0x9E3779B97F4A7C15)) & np.uint64(0xFFFFFFFFFFFFFFFF)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@jit
def _signatures(start: int, n: int, width: int, out: U32, texts: U64) -> None:
    for row in range(n):
        number = np.uint64(start + row)
        draw = splitmix64(number)
        kind = draw % np.uint64(50)
        base = number
        kept = np.uint64(1000)
        if number > 0 and kind <= 5:
            base = splitmix64(draw) % number
            if kind > 0:
                kept = np.uint64(800) + splitmix64(draw + np.uint64(1)) % np.uint64(200)
        texts[row] = base if kind == 0 else number
        for k in range(width):
            own = splitmix64(number * np.uint64(1021) + np.uint64(k))
            if own % np.uint64(1000) < kept:
                own = splitmix64(base * np.uint64(1021) + np.uint64(k))
            out[row, k] = np.uint32(own >> np.uint64(32))


def part(storage: Storage, number: int, rows: int, config: DedupConfig) -> tuple[PartRef, PartRef]:
    """Write a part's signatures and the columns of its documents that are read beside them."""
    start = number * PART
    signatures = np.empty((rows, config.num_permutations), np.uint32)
    texts = np.empty(rows, np.uint64)
    _signatures(start, rows, config.num_permutations, signatures, texts)
    halves = np.column_stack([_hash_array(texts), _hash_array(texts + np.uint64(1 << 60))])
    raw = np.ascontiguousarray(halves).astype(">u8").tobytes()
    digests = [raw[16 * k : 16 * k + 16] for k in range(rows)]
    ids = _hex(np.arange(start, start + rows, dtype=np.uint64))
    keys = signature_table(
        ids, digests, np.full(rows, SHINGLES, np.int64), signatures, config
    ).set_column(0, "id", ids)
    nulls = pa.nulls(rows, pa.string())
    columns = {"id": ids, "url": nulls, "date": nulls, "title": nulls}
    documents = pa.table({**columns, "characters": pa.array(np.full(rows, 6 * SHINGLES))})
    for name, value in (("source", SOURCE), ("language", "en"), ("language_score", 1.0)):
        same = pa.array([value]).take(pa.array(np.zeros(rows, np.int64)))
        documents = documents.append_column(name, same)
    return (_put(storage, f"documents-{number}", documents), _put(storage, f"keys-{number}", keys))


def _put(storage: Storage, name: str, table: pa.Table) -> PartRef:
    data = table_bytes(table)
    storage.write(f"{name}.parquet", data)
    files = {TABLE_SUFFIX: FileRecord(f"{name}.parquet", len(data), name)}
    counts = Counts(table.num_rows, table.num_rows)
    return PartRef(storage, SOURCE, SOURCE, PartRecord(name, table.num_rows, 0, counts, files))


def _hex(numbers: U64) -> "pa.Array[pa.StringScalar]":
    """Numbers as 32 hexadecimal digits, without a Python object per row."""
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    shifts = np.arange(60, -4, -4, dtype=np.uint64)
    low = digits[(numbers[:, None] >> shifts) & np.uint64(15)]
    text = np.concatenate([np.full_like(low, ord("0")), low], axis=1)
    offsets = np.arange(0, 32 * len(numbers) + 1, 32, dtype=np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(text))]
    return pa.StringArray.from_buffers(len(numbers), *buffers[1:])


def _hash_array(values: U64) -> U64:
    out = np.empty_like(values)
    _hash_into(values, out)
    return out


@jit
def _hash_into(values: U64, out: U64) -> None:
    for i in range(len(values)):
        out[i] = splitmix64(values[i])


def bytes_per_document(parts: Sequence[PartRef]) -> float:
    """What the store holds of each document's keys, on the disk."""
    size = sum(part.storage.size(part.file(TABLE_SUFFIX)) for part in parts)
    return size / sum(part.num_rows for part in parts)
