"""Documents to token shards: the pure function behind the stage, and the figures of its result."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from infra.dataset import PartRef
from infra.ledger import verdicts
from infra.stage import Outcome
from infra.tokens import SPLITS, VALIDATION, ShardWriter
from tasks.tokenize.encode import Encoder
from tasks.tokenize.split import splits, survey, texts_of

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
        ("offset", pa.int64()),
        ("exact", pa.bool_()),
    ]
)


def tokenize_documents(
    table: pa.Table, encoder: Encoder, *, seed: int, limit: float, stage: str = "tokenize"
) -> Outcome:
    """Token shards of some documents and the table that leads from a sequence to its document.

    ``tokens`` counts the closing end of text, ``bytes`` is the UTF-8 length of the text, ``offset``
    the place of the first token in the split's ``.bin``, ``exact`` (held-out documents only)
    whether the text came back from its tokens unchanged. A split without documents has no files.

    Args:
        table: documents with ``id`` and ``text``; ``url``, ``source`` and ``language`` if known.
        encoder: the tokenizer.
        seed: the recipe's seed.
        limit: the draw below which a document is held out (``split.cut``).
        stage: the name in the ledger.
    """
    drawn = survey(table, seed)
    side = splits(drawn["split_draw"].to_numpy(), limit)
    texts = texts_of(table)
    writers = {split: ShardWriter(encoder.dtype) for split in SPLITS}
    rows: list[tuple[int, str, int, int, int, bool | None]] = []
    errors: list[Exception | None] = []
    for row, ids in enumerate(encoder.encode(texts)):
        if isinstance(ids, Exception):
            errors.append(ids)
            continue
        errors.append(None)
        sequence, offset = writers[side[row]].add(ids)
        exact = encoder.decode(ids) == texts[row] if side[row] == VALIDATION else None
        rows.append((row, side[row], sequence, len(ids), offset, exact))
    index = pa.array([row[0] for row in rows], pa.int64())
    columns = {
        name: _column(table, name).take(index) for name in ("id", "url", "source", "language")
    }
    columns["bytes"] = drawn["bytes"].take(index)
    for at, name in enumerate(("split", "sequence", "tokens", "offset", "exact"), start=1):
        columns[name] = pa.array([row[at] for row in rows], SCHEMA.field(name).type)
    files: dict[str, bytes] = {}
    for split, writer in writers.items():
        if len(writer):  # Megatron's reader cannot map an empty file
            files |= {f"{split}.bin": writer.bin(), f"{split}.idx": writer.idx()}
    return Outcome(
        pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA),
        _ledger(stage, table, errors),
        files,
    )


def _column(table: pa.Table, name: str) -> "pa.ChunkedArray[Any]":
    if name in table.column_names:
        return table[name].cast(pa.string())
    return pa.chunked_array([pa.nulls(table.num_rows, pa.string())])


def _ledger(stage: str, table: pa.Table, errors: Sequence[Exception | None]) -> pa.Table:
    return verdicts(
        stage,
        table["id"].to_pylist(),
        urls=_column(table, "url").to_pylist(),
        reasons=["cannot_encode" if error else None for error in errors],
        failed=[error is not None for error in errors],
        evidence=[{"error": str(error)[:500]} if error else None for error in errors],
    )


def figures(parts: Sequence[PartRef], encoder: Encoder) -> dict[str, Any]:
    """The facts of a finished token data set.

    Returns:
        ``vocab_size``, ``eos_id``, ``dtype``, ``tokenizer`` (digest); ``documents``, ``tokens``
        (end-of-text included) and ``bytes`` by split; ``bytes_per_token`` (end-of-text not
        counted); the same three by source and by language; ``round_trip`` of held-out documents.
    """
    columns = ["source", "language", "split", "tokens", "bytes", "exact"]
    tables = [part.table(columns) for part in parts]
    empty = pa.schema([SCHEMA.field(name) for name in columns]).empty_table()
    table = pa.concat_tables([empty, *tables])
    held = table.filter(pc.equal(table["split"], VALIDATION))
    by_split = _sums(table, "split")
    none = {"documents": 0, "tokens": 0, "bytes": 0}
    total = {name: sum(group[name] for group in by_split.values()) for name in none}
    return {
        "vocab_size": encoder.vocabulary,
        "eos_id": encoder.eos,
        "dtype": encoder.dtype.name,
        "tokenizer": encoder.digest,
        **{name: {split: by_split.get(split, none)[name] for split in SPLITS} for name in none},
        "bytes_per_token": bytes_per_token(**total),
        "by_source": _sums(table, "source"),
        "by_language": _sums(table, "language"),
        "round_trip": {
            "documents": held.num_rows,
            "exact": int(pc.sum(held["exact"]).as_py() or 0),
        },
    }


def bytes_per_token(documents: int, tokens: int, bytes: int) -> float | None:  # noqa: A002
    """UTF-8 bytes of text per token of text: each document's end of text is not counted."""
    return round(bytes / (tokens - documents), 4) if tokens > documents else None


def _sums(table: pa.Table, key: str) -> dict[str, dict[str, Any]]:
    groups = table.group_by(key).aggregate(
        [("tokens", "count"), ("tokens", "sum"), ("bytes", "sum")]
    )
    result = {
        str(row[key] or "unknown"): {
            "documents": row["tokens_count"],
            "tokens": row["tokens_sum"],
            "bytes": row["bytes_sum"],
        }
        for row in groups.to_pylist()
    }
    for group in result.values():
        group["bytes_per_token"] = bytes_per_token(**group)
    return dict(sorted(result.items()))
