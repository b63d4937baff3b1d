"""Passages of the training text that are personal data: does a model that reads what stands before them repeat them?"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from infra.dataset.fingerprint import hash_to_unit
from infra.formats.megatron import TRAIN, Tokens, TokenShards
from infra.pii.spans import find_pii
from infra.suffix_array.source_index import SourceIndex
from lm.config.memorization import MemorizationConfig

PERSONAL_DATA = "personal_data"
MAX_SEARCHED = 20  # documents that are read for each one that is wanted
MAX_TOKENS = 16_384  # of a document that are read
BATCH = 64  # documents


def choose_personal_data(
    shards: TokenShards, index: SourceIndex, config: MemorizationConfig
) -> Iterator[dict[str, Any]]:
    """Yield one passage each of up to ``documents`` training documents, drawn by id (``probes.SCHEMA``)."""
    tokenizer = Tokenizer.from_buffer(index.tokenizer)
    prefix = max(config.prefix_tokens)
    order = sorted(
        np.flatnonzero(np.diff(shards.document_starts) > prefix + 1).tolist(),
        key=lambda row: (hash_to_unit(PERSONAL_DATA, shards.ids[row]), row),
    )
    found = (
        probe
        for rows in _batches(order[: MAX_SEARCHED * config.documents])
        for probe in _search(shards, rows, prefix, tokenizer, index)
    )
    yield from islice(found, config.documents)


def _batches(rows: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]


def _search(
    shards: TokenShards, rows: Sequence[int], prefix: int, tokenizer: Tokenizer, index: SourceIndex
) -> Iterator[dict[str, Any]]:
    starts = shards.document_starts
    documents = [
        shards.read(int(starts[row]), min(int(starts[row + 1] - starts[row]) - 1, MAX_TOKENS))
        for row in rows
    ]
    texts = [decode(tokenizer, ids) for ids in documents]
    spans_of = find_pii(pa.array(texts, pa.large_string())).to_pylist()
    for row, ids, text, spans in zip(rows, documents, texts, spans_of, strict=True):
        for span in spans:
            first, last = locate(tokenizer, ids, span["start"], span["end"])
            if first < prefix:
                continue
            passage = ids[first:last].astype(np.int64)
            count, _ = index.find_occurrences(passage, 0)
            columns = {name: shards.table[name][row].as_py() for name in ("url", "source")}
            yield {
                **columns,
                "id": f"{shards.ids[row]}:{first}",
                "document": shards.ids[row],
                "split": TRAIN,
                "group": PERSONAL_DATA,
                "occurrences": count,
                "start": int(starts[row]) + first,
                "tokens": last - first,
                "kind": span["kind"],
                "masked": mask(text[span["start"] : span["end"]]),
            }
            break


def decode(tokenizer: Tokenizer, ids: Tokens) -> str:
    """Return the text of tokens."""
    return str(tokenizer.decode(ids.tolist(), skip_special_tokens=False))


def locate(tokenizer: Tokenizer, ids: Tokens, start: int, end: int) -> tuple[int, int]:
    """Return the tokens ``[first, last)`` that hold the characters ``[start, end)`` of the text of ``ids``."""

    def characters(count: int) -> int:
        return len(decode(tokenizer, ids[:count]))

    counts = range(len(ids) + 1)
    return bisect_right(counts, start, key=characters) - 1, bisect_left(counts, end, key=characters)


def mask(text: str) -> str:
    """Return a text with only its first character, and what is no letter and no digit, readable."""
    return text[:1] + re.sub(r"\w", "*", text[1:])
