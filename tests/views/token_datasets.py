"""Token shards of the miniature run."""

from typing import Any

import numpy as np
import pyarrow as pa

from infra.dataset.dataset import Dataset
from infra.formats.megatron import TokenShardWriter
from tests.views.datasets import Made, Page, Road, add, ledger


def _sums(rows: list[tuple[str, int, int]]) -> dict[str, dict[str, int | float]]:
    out: dict[str, dict[str, int | float]] = {}
    for key, tokens, size in rows:
        group = out.setdefault(key, {"documents": 0, "tokens": 0, "bytes": 0})
        group["documents"] += 1
        group["tokens"] += tokens
        group["bytes"] += size
    for group in out.values():
        group["bytes_per_token"] = group["bytes"] / group["tokens"]
    return dict(sorted(out.items()))


def tokenize(road: Road, corpus: Dataset, found: list[list[Page]]) -> Dataset:
    """Token shards with a made-up tokenizer of four bytes a token."""
    parts: list[Made] = []
    rows = []
    for half in found:
        kept = [page for page in half if page.reason is None]
        writers = {
            "train": TokenShardWriter(np.dtype("<u2")),
            "validation": TokenShardWriter(np.dtype("<u2")),
        }
        columns: dict[str, list[Any]] = {
            name: []
            for name in ("id", "url", "source", "language", "split", "sequence", "tokens", "bytes")
        }
        columns["offset"] = []
        for page in kept:
            split = "validation" if int(page.id[:2], 16) < 16 else "train"
            size = len(page.text.encode())
            ids = np.zeros(size // 4 + 1, np.int64)
            sequence, offset = writers[split].add(ids)
            said = (page.id, page.url, page.source, page.language, split, sequence, len(ids), size)
            for name, value in zip(columns, (*said, offset), strict=True):
                columns[name].append(value)
            rows.append((page, split, len(ids), size))
        files: dict[str, bytes] = {}
        for split, writer in writers.items():
            if len(writer):
                files |= {f"{split}.bin": writer.bin_bytes(), f"{split}.idx": writer.idx_bytes()}
        parts.append((pa.table(columns), ledger("tokenize", kept), files))
    by_split = _sums([(split, tokens, size) for _, split, tokens, size in rows])
    facts = {
        "vocab_size": 8192,
        "dtype": "uint16",
        **{
            name: {split: by_split.get(split, {}).get(name, 0) for split in ("train", "validation")}
            for name in ("documents", "tokens", "bytes")
        },
        "bytes_per_token": 3.98,
        "by_source": _sums([(page.source, tokens, size) for page, _, tokens, size in rows]),
        "by_language": _sums([(page.language, tokens, size) for page, _, tokens, size in rows]),
    }
    return add(road, "tokenize", None, [corpus], parts, facts)
