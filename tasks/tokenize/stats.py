"""Statistics of a token data set: sizes, fertility, round trips, unused vocabulary."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.dataset.dataset import PartRef
from infra.formats.megatron import SPLITS, VALIDATION
from tasks.tokenize.encode import Encoder
from tasks.tokenize.shards import SCHEMA, USAGE_FILE

MAX_EXAMPLES = 20  # of unused tokens, and of documents whose round trip failed
COLUMNS = ["source", "language", "split", "tokens", "bytes", "words", "exact", "normalized"]


def tokenizer_stats(parts: Sequence[PartRef], encoder: Encoder) -> dict[str, Any]:
    """Compute the statistics that the manifest of a token data set holds.

    Returns:
        ``vocab_size``, ``eos_id``, ``dtype``, ``tokenizer`` (digest); ``documents``, ``tokens``
        (end-of-text included), ``bytes`` and ``words`` by split; ``bytes_per_token`` and
        ``tokens_per_word`` (end-of-text not counted); the same by source and by language;
        ``normalized``, the number of documents that Unicode normalization changed;
        ``round_trip`` of held-out documents; ``unused`` ids of the vocabulary.
    """
    tables = [part.table(COLUMNS) for part in parts]
    empty = pa.schema([SCHEMA.field(name) for name in COLUMNS]).empty_table()
    table = pa.concat_tables([empty, *tables])
    by_split = _sums_by(table, "split")
    none = {"documents": 0, "tokens": 0, "bytes": 0, "words": 0}
    total = {name: sum(group[name] for group in by_split.values()) for name in none}
    return {
        "vocab_size": encoder.vocab_size,
        "eos_id": encoder.eos_id,
        "dtype": encoder.dtype.name,
        "tokenizer": encoder.digest,
        **{name: {split: by_split.get(split, none)[name] for split in SPLITS} for name in none},
        **fertility(**total),
        "by_source": _sums_by(table, "source"),
        "by_language": _sums_by(table, "language"),
        "normalized": int(pc.sum(table["normalized"]).as_py() or 0),
        "round_trip": _round_trip(parts, table),
        "unused": _unused(parts, encoder),
    }


def fertility(documents: int, tokens: int, bytes: int, words: int) -> dict[str, float | None]:  # noqa: A002
    """Return UTF-8 bytes per token and tokens per word (fertility), without end-of-text tokens."""
    content_tokens = tokens - documents
    return {
        "bytes_per_token": round(bytes / content_tokens, 4) if content_tokens > 0 else None,
        "tokens_per_word": round(content_tokens / words, 4) if words > 0 else None,
    }


def _sums_by(table: pa.Table, key: str) -> dict[str, dict[str, Any]]:
    summed = ("tokens", "bytes", "words")
    groups = table.group_by(key).aggregate([("tokens", "count"), *((n, "sum") for n in summed)])
    result: dict[str, dict[str, Any]] = {}
    for row in groups.to_pylist():
        sums = {"documents": row["tokens_count"], **{name: row[f"{name}_sum"] for name in summed}}
        result[str(row[key] or "unknown")] = {**sums, **fertility(**sums)}
    return dict(sorted(result.items()))


def _round_trip(parts: Sequence[PartRef], table: pa.Table) -> Mapping[str, Any]:
    """Count the held-out documents that decode exactly, and list some that do not."""
    held = table.filter(pc.equal(table["split"], VALIDATION))
    exact = int(pc.sum(held["exact"]).as_py() or 0)
    failing: list[dict[str, Any]] = []
    for part in parts if exact < held.num_rows else ():
        if len(failing) == MAX_EXAMPLES:
            break
        rows = part.table(["id", "url", "exact"])
        inexact = rows.filter(pc.fill_null(pc.invert(rows["exact"]), False))
        failing += inexact.select(["id", "url"]).slice(0, MAX_EXAMPLES - len(failing)).to_pylist()
    return {"documents": held.num_rows, "exact": exact, "failing": failing}


def _unused(parts: Sequence[PartRef], encoder: Encoder) -> Mapping[str, Any]:
    """Find the ids that no document of the training split uses; special tokens do not count."""
    used = np.zeros(encoder.vocab_size, np.bool_)
    for part in parts:
        with part.open(USAGE_FILE) as file:
            used[pq.read_table(file, columns=["token"])["token"].to_numpy()] = True
    used[encoder.all_special_ids] = True
    unused = np.flatnonzero(~used)
    examples = unused[:MAX_EXAMPLES].tolist()
    texts = encoder.token_texts(examples)
    return {
        "count": len(unused),
        "fraction": round(len(unused) / encoder.vocab_size, 6),
        "examples": [
            {"id": token, "text": text} for token, text in zip(examples, texts, strict=True)
        ],
    }
