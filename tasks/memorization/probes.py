"""Choose passages to continue: of training documents, by how often they occur, and of held-out ones."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from infra.dataset.fingerprint import hash_to_unit
from infra.formats.megatron import TRAIN, VALIDATION, Tokens, TokenShards
from infra.suffix_array.source_index import SourceIndex
from lm.config.memorization import MemorizationConfig
from tasks.memorization.personal_data import choose_personal_data

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("document", pa.string()),
        ("url", pa.string()),
        ("source", pa.string()),
        ("split", pa.string()),
        ("group", pa.string()),
        ("occurrences", pa.int64()),  # of the continuation in the training text
        ("start", pa.int64()),  # its first token in the split
        ("tokens", pa.int64()),  # its length
        ("kind", pa.string()),  # of personal data
        ("masked", pa.string()),  # the personal data, with only its form readable
    ]
)
HELD_OUT, SEEN_ELSEWHERE = "held_out", "held_out_but_seen"
# Group of a training document -> how often its continuation occurs, up to and including.
GROUPS = {"seen_once": 1, "seen_2_to_9": 9, "seen_10_or_more": np.inf}
MAX_SEARCHED = (
    20  # documents that are looked up for each one that is wanted: rare groups stay small
)


def choose_probes(
    train: TokenShards, held: TokenShards, index: SourceIndex, config: MemorizationConfig
) -> pa.Table:
    """Return rows of ``SCHEMA``: up to ``documents`` of each group, and passages that are personal data.

    Documents and places in them are drawn by id. A held-out passage that occurs in the training text is left out
    of the held-out ones: the model has seen it.
    """
    rows = [
        *_choose(train, TRAIN, index, config),
        *_choose(held, VALIDATION, index, config),
        *choose_personal_data(train, index, config),
    ]
    return pa.Table.from_pylist(rows, SCHEMA)


def _choose(
    shards: TokenShards, split: str, index: SourceIndex, config: MemorizationConfig
) -> Iterator[dict[str, Any]]:
    wanted = len(GROUPS) if split == TRAIN else 1
    found = dict.fromkeys((*GROUPS, HELD_OUT, SEEN_ELSEWHERE), 0)
    searched = islice(_candidates(shards, config), MAX_SEARCHED * config.documents)
    for row, start in searched:
        ids = shards.read(start, config.continuation_tokens).astype(np.int64)
        count, _ = index.find_occurrences(ids, 0)
        group = _group(split, count)
        if group == SEEN_ELSEWHERE or found[group] == config.documents:
            continue
        found[group] += 1
        columns = {name: shards.table[name][row].as_py() for name in ("id", "url", "source")}
        yield {
            **columns,
            "document": columns["id"],
            "split": split,
            "group": group,
            "occurrences": count,
            "start": start,
            "tokens": config.continuation_tokens,
        }
        if sum(size == config.documents for size in found.values()) == wanted:
            return


def _group(split: str, occurrences: int) -> str:
    if split == VALIDATION:
        return SEEN_ELSEWHERE if occurrences else HELD_OUT
    return next(name for name, limit in GROUPS.items() if occurrences <= limit)


def _candidates(shards: TokenShards, config: MemorizationConfig) -> Iterator[tuple[int, int]]:
    """Yield documents that are long enough, in an order drawn by id, each with a place in it."""
    prefix, size = max(config.prefix_tokens), config.continuation_tokens
    starts, ids = shards.document_starts, shards.ids
    room = np.diff(starts) - 1 - prefix - size  # the end of text is not continued
    order = sorted(
        np.flatnonzero(room >= 0).tolist(),
        key=lambda row: (hash_to_unit("memorization", ids[row]), row),
    )
    for row in order:
        offset = int(hash_to_unit("place", ids[row]) * (int(room[row]) + 1))
        yield row, int(starts[row]) + prefix + offset


def read_probe(shards: TokenShards, start: int, prefix: int, size: int) -> tuple[Tokens, Tokens]:
    """Return the tokens before a passage, and its own."""
    ids = shards.read(start - prefix, prefix + size).astype(np.int64)
    return ids[:prefix], ids[prefix:]


def min_k(nats: Sequence[float], fraction: float = 0.2) -> float:
    """Return the mean -ln p of the least probable fifth of the tokens (Min-K%, Shi et al. 2023).

    Text that was trained on has fewer tokens that surprise the model, so it is smaller there.
    """
    values = np.sort(np.asarray(nats, np.float64))[::-1]
    return float(values[: max(1, int(len(values) * fraction))].mean())


def auroc(members: Sequence[float], others: Sequence[float]) -> float | None:
    """Return how often a member has a smaller value than another, ties counting half; 0.5 is chance."""
    if not len(members) or not len(others):
        return None
    a, b = np.asarray(members), np.sort(np.asarray(others))
    larger = len(b) - np.searchsorted(b, a, side="right")
    ties = np.searchsorted(b, a, side="right") - np.searchsorted(b, a, side="left")
    return float((larger + ties / 2).sum() / (len(a) * len(b)))
