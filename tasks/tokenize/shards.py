"""Turn documents into token shards: the pure function of the stage."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from infra.dataset.ledger import ledger_table
from infra.dataset.stage import PartResult
from infra.dataset.tables import table_bytes
from infra.formats.arrow_text import utf8_buffers
from infra.formats.megatron import TRAIN, VALIDATION, Tokens, encode_index
from tasks.tokenize.encode import Encoder
from tasks.tokenize.holdout_split import assign_splits, draw_documents
from tasks.tokenize.word_table import count_whitespace_words

USAGE_FILE = "usage.parquet"
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("url", pa.string()),
        ("source", pa.string()),
        ("language", pa.string()),
        ("license", pa.string()),
        ("split", pa.string()),
        ("sequence", pa.int64()),
        ("tokens", pa.int64()),
        ("bytes", pa.int64()),
        ("words", pa.int64()),
        ("offset", pa.int64()),
        ("exact", pa.bool_()),
        ("normalized", pa.bool_()),
    ]
)


def tokenize_documents(
    table: pa.Table, encoder: Encoder, *, seed: int, threshold: float, stage: str = "tokenize"
) -> PartResult:
    """Encode documents into token shards and a table that maps each sequence to its document.

    Columns of the table: ``tokens`` includes the end-of-text token; ``bytes`` is the UTF-8 length of
    the text; ``words`` counts whitespace-separated words; ``offset`` is the index of the first token in
    the split's ``.bin``; ``normalized`` says whether Unicode normalization changed the text; ``exact``
    (held-out documents only) says whether the tokens decode to exactly the normalized text. A split
    without documents has no files.

    Args:
        table: documents with ``id``, ``text`` and the digest of the text
            (``infra.schemas.text_digests``); ``url``, ``source``, ``language`` and ``license``
            if known.
        encoder: the tokenizer.
        seed: of the recipe.
        threshold: what ``holdout_threshold`` returned.
        stage: its name in the ledger.
    """
    drawn = draw_documents(table, seed)
    held = drawn["split_draw"].to_numpy() < threshold
    original = text_column(table)
    texts = encoder.normalize(original)
    encoded = encoder.encode_column(texts)
    encodable = np.ones(len(texts), np.bool_)
    encodable[list(encoded.errors)] = False
    exact = np.zeros(len(texts), np.bool_)
    checked = np.flatnonzero(held & encodable)
    exact[checked] = encoder.roundtrips(texts, encoded, checked)
    sequence, offset = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.int64)
    files: dict[str, bytes] = {}
    for split, in_split in ((TRAIN, encodable & ~held), (VALIDATION, encodable & held)):
        lengths = encoded.lengths[in_split]
        tokens = encoded.tokens[np.repeat(in_split, encoded.lengths)]
        sequence[in_split] = np.arange(len(lengths))
        offset[in_split] = np.cumsum(lengths) - lengths
        if len(lengths):  # Megatron's reader cannot memory-map an empty file
            index = encode_index(lengths.tolist(), encoder.dtype)
            files |= {f"{split}.bin": tokens.tobytes(), f"{split}.idx": index}
        if split == TRAIN:
            files[USAGE_FILE] = _count_usage(tokens)
    changed = np.zeros(len(texts), np.bool_)
    if texts is not original:
        changed = pc.not_equal(original, texts).to_numpy(zero_copy_only=False)
    columns = {
        name: _column(table, name) for name in ("id", "url", "source", "language", "license")
    } | {
        "split": pa.array(assign_splits(drawn["split_draw"].to_numpy(), threshold), pa.string()),
        "sequence": pa.array(sequence),
        "tokens": pa.array(encoded.lengths),
        "bytes": drawn["bytes"],
        "words": pa.array(count_whitespace_words(*utf8_buffers(original))),
        "offset": pa.array(offset),
        "exact": pa.array(exact, mask=~held),
        "normalized": pa.array(changed),
    }
    rows = pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)
    return PartResult(
        rows.filter(pa.array(encodable)) if encoded.errors else rows,
        _ledger(stage, table, [encoded.errors.get(row) for row in range(len(texts))]),
        files,
    )


def text_column(table: pa.Table) -> "pa.Array[Any]":
    """Return the ``text`` column as one ``large_string`` array; null becomes empty text."""
    column = table["text"].cast(pa.large_string()).fill_null("")
    return (
        column.chunk(0)
        if column.num_chunks == 1
        else pa.concat_arrays([pa.array([], pa.large_string()), *column.chunks])
    )


def _count_usage(tokens: Tokens) -> bytes:
    """Count how often a part's training documents use each id; returns a Parquet file."""
    counts = np.bincount(tokens)
    used = np.flatnonzero(counts)
    return table_bytes(
        pa.table({"token": pa.array(used, pa.int32()), "count": pa.array(counts[used], pa.int64())})
    )


def _column(table: pa.Table, name: str) -> "pa.ChunkedArray[Any]":
    if name in table.column_names:
        return table[name].cast(pa.string())
    return pa.chunked_array([pa.nulls(table.num_rows, pa.string())])


def _ledger(stage: str, table: pa.Table, errors: Sequence[Exception | None]) -> pa.Table:
    return ledger_table(
        stage,
        table["id"].to_pylist(),
        urls=_column(table, "url").to_pylist(),
        reasons=["cannot_encode" if error else None for error in errors],
        failed=[error is not None for error in errors],
        evidence=[{"error": str(error)[:500]} if error else None for error in errors],
    )
