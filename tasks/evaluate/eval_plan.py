"""Plan an evaluation: which held-out documents are scored, how much of each, in which batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from infra.dataset.fingerprint import hash_to_unit, json_sha256
from infra.dataset.ledger import ledger_table
from infra.dataset.mixers import splitmix64
from infra.formats.megatron import Positions, Tokens, TokenShards
from tasks.evaluate.config import EvaluateConfig

OVER_BUDGET = "over_budget"
# Tokens per unit of work; fixed, so that results do not depend on the number of workers.
BATCH_TOKENS = 32_768

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("url", pa.string()),
        ("source", pa.string()),
        ("language", pa.string()),
        ("start", pa.int64()),  # index of its first token in the split
        ("document_tokens", pa.int64()),
        ("document_bytes", pa.int64()),
        ("tokens", pa.int64()),  # number of scored tokens; 0: not scored
        ("prompt_tokens", pa.int64()),  # length of a sample's prompt; 0: no sample
    ]
)


def plan_documents(shards: TokenShards, config: EvaluateConfig, seed: int) -> pa.Table:
    """Return a row of ``SCHEMA`` for every document of the validation split, in its order."""
    table = shards.table
    ids = shards.ids
    lengths = np.diff(shards.document_starts)
    scored = np.zeros(len(ids), np.int64)
    order = sorted(range(len(ids)), key=lambda row: (hash_to_unit(seed, "evaluate", ids[row]), row))
    total = 0
    for row in order[: config.max_documents]:
        if total >= config.max_tokens:
            break
        scored[row] = min(int(lengths[row]), config.max_document_tokens)
        total += int(scored[row])
    return pa.table(
        {
            **{
                name: table[name] if ids else pa.array([], pa.string())
                for name in ("id", "url", "source", "language")
            },
            "start": shards.document_starts[:-1],
            "document_tokens": lengths,
            "document_bytes": table["bytes"] if ids else pa.array([], pa.int64()),
            "tokens": scored,
            "prompt_tokens": _prompt_lengths(ids, scored, config, seed),
        },
        schema=SCHEMA,
    )


def _prompt_lengths(
    ids: list[str], scored: Positions, config: EvaluateConfig, seed: int
) -> list[int]:
    """Choose the documents to sample from, preferring long ones; return the prompt lengths."""
    needed = config.prompt_tokens + config.max_new_tokens
    order = sorted(
        (row for row in range(len(ids)) if scored[row] > 1),
        key=lambda row: (scored[row] < needed, hash_to_unit(seed, "sample", ids[row]), row),
    )
    prompts = [0] * len(ids)
    for row in order[: config.num_samples]:
        prompts[row] = min(config.prompt_tokens, int(scored[row]) // 2)
    return prompts


@dataclass(frozen=True)
class MaskSample:
    """Which tokens of the held-out documents are masked, each by a draw of its own.

    Attributes:
        seed: the recipe's.
        fraction: of all scored tokens.
    """

    seed: int
    fraction: float

    def choose(self, document: str, ids: Tokens, eos: int) -> Positions:
        """Return the positions to mask in the document with this id, never an end of text."""
        digest = bytes.fromhex(json_sha256([self.seed, "pseudo-log-likelihood", document]))
        (key,) = np.frombuffer(digest, "<u8", count=1)
        draws = splitmix64(np.arange(len(ids), dtype=np.uint64), key) >> np.uint64(11)
        is_chosen = (draws.astype(np.float64) * 2.0**-53 < self.fraction) & (ids != eos)
        return np.flatnonzero(is_chosen)


def batches(planned: pa.Table) -> Iterator[pa.Table]:
    """Split the plan into batches of about ``BATCH_TOKENS`` tokens to score, in order."""
    sums = np.cumsum(planned["tokens"].to_numpy())
    bounds = [0, *(np.flatnonzero(np.diff(sums // BATCH_TOKENS)) + 1).tolist(), planned.num_rows]
    for start, stop in pairwise(bounds):
        if stop > start:
            yield planned.slice(start, stop - start)


def plan_ledger(stage: str, planned: pa.Table) -> pa.Table:
    """Return the ledger rows of planned documents: scored, or over the budget."""
    return ledger_table(
        stage,
        planned["id"].to_pylist(),
        urls=planned["url"].to_pylist(),
        reasons=[None if tokens else OVER_BUDGET for tokens in planned["tokens"].to_pylist()],
    )
