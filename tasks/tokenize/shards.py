"""Documents to token shards: the pure function behind the stage."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
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
    """Token shards of some documents and the table that leads from a sequence to its document.

    ``tokens`` counts the closing end of text, ``bytes`` is the UTF-8 length of the text, ``words``
    what stands between white space, ``offset`` the place of the first token in the split's
    ``.bin``, ``exact`` (held-out documents only) whether the text came back from its tokens
    unchanged, ``normalised`` whether the tokenizer's normal form changed it before; ``exact`` then
    speaks of the changed text. A split without documents has no files.

    Args:
        table: documents with ``id`` and ``text``; ``url``, ``source`` and ``language`` if known.
        encoder: the tokenizer.
        seed: the recipe's seed.
        threshold: the draw below which a document is held out (``split.cut``).
        stage: the name in the ledger.
    """
    drawn = draw_documents(table, seed)
    held = drawn["split_draw"].to_numpy() < threshold
    original = text_column(table)
    texts = encoder.normalize(original)
    encoded = encoder.encode_column(texts)
    done = np.ones(len(texts), np.bool_)
    done[list(encoded.errors)] = False
    exact = np.zeros(len(texts), np.bool_)
    looked_at = np.flatnonzero(held & done)
    exact[looked_at] = encoder.roundtrips(texts, encoded, looked_at)
    sequence, offset = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.int64)
    files: dict[str, bytes] = {}
    for split, side in ((TRAIN, done & ~held), (VALIDATION, held & done)):
        lengths = encoded.lengths[side]
        tokens = encoded.tokens[np.repeat(side, encoded.lengths)]
        sequence[side] = np.arange(len(lengths))
        offset[side] = np.cumsum(lengths) - lengths
        if len(lengths):  # Megatron's reader cannot map an empty file
            index = encode_index(lengths.tolist(), encoder.dtype)
            files |= {f"{split}.bin": tokens.tobytes(), f"{split}.idx": index}
        if split == TRAIN:
            files[USAGE_FILE] = _count_usage(tokens)
    changed = np.zeros(len(texts), np.bool_) if texts is original else rows_differ(original, texts)
    columns = {name: _column(table, name) for name in ("id", "url", "source", "language")} | {
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
        rows.filter(pa.array(done)) if encoded.errors else rows,
        _ledger(stage, table, [encoded.errors.get(row) for row in range(len(texts))]),
        files,
    )


def text_column(table: pa.Table) -> "pa.Array[Any]":
    """The ``text`` column in one piece: ``large_string``; a null is empty text."""
    column = table["text"].cast(pa.large_string()).fill_null("")
    return (
        column.chunk(0)
        if column.num_chunks == 1
        else pa.concat_arrays([pa.array([], pa.large_string()), *column.chunks])
    )


def rows_differ(one: "pa.Array[Any]", other: "pa.Array[Any]") -> npt.NDArray[np.bool_]:
    """bool[n]: which texts of two columns differ."""
    result: npt.NDArray[np.bool_] = pc.not_equal(one, other).to_numpy(zero_copy_only=False)
    return result


def _count_usage(tokens: Tokens) -> bytes:
    """Which ids the training documents of a part use, and how often, as Parquet."""
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
