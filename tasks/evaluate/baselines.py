"""The baselines as a data set of their own: counted and scored once, whatever models there are."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.dataset.dataset import Dataset
from infra.dataset.fingerprint import digest, unit_interval
from infra.dataset.stage import Context, Outcome, Spec, Stage, Unit
from infra.dataset.stage import build as build_dataset
from infra.formats.megatron import TRAIN, VALIDATION, Tokens, TokenShards
from tasks.evaluate.eval_plan import ledger
from tasks.evaluate.language_model import Nats
from tasks.evaluate.ngram import Trigram, Unigram, count

Rows = npt.NDArray[np.int64]

STAGE = Stage(
    "baselines",
    modules=("tasks.evaluate.baselines",),
    libraries=("numpy", "pyarrow"),
)
COUNTED = "counted.json"


def build_baselines(ctx: Context, tokens: Dataset, planned: pa.Table, limit: int) -> Dataset:
    """Unigram and 3-gram scores of the planned documents.

    Args:
        ctx: the run.
        tokens: token shards; the training split is counted, the validation split scored.
        planned: ``plan.plan``.
        limit: training tokens to count at most.
    """
    key = digest([tokens.content, planned.to_pylist()])
    unit = Unit(key, (tokens, planned, limit, ctx.seed), planned.num_rows)
    spec = Spec(STAGE, None, {"seed": ctx.seed, "ngram_tokens": limit, "plan": key}, (tokens,))
    return build_dataset(ctx, spec, [unit], score)


def score(tokens: Dataset, planned: pa.Table, limit: int, seed: int) -> Iterator[Outcome]:
    """Count the training split and score the planned documents."""
    vocabulary, eos = int(tokens.facts["vocab_size"]), int(tokens.facts["eos_id"])
    train, held = TokenShards(tokens, TRAIN), TokenShards(tokens, VALIDATION)
    chosen = choose(train, limit, seed)
    size = int(np.diff(train.document_starts)[chosen].sum())
    counts, keys = count(runs(train, chosen), size, vocabulary, eos)
    trigram = Trigram(keys, vocabulary, eos)
    plan = [row for row in planned.to_pylist() if row["tokens"]]
    documents = [held.window(row["start"], row["tokens"]) for row in plan]
    table = pa.table(
        {
            "id": pa.array([row["id"] for row in plan], pa.string()),
            "unigram_nats": _sums(Unigram(counts).score_texts(documents)),
            "trigram_nats": _sums(trigram.score_texts(documents)),
        }
    )
    counted = {
        "documents": len(chosen),
        "tokens": size,
        "split_tokens": len(train),
        "unigrams": int(np.count_nonzero(counts)),
        **trigram.size,
    }
    files = {COUNTED: json.dumps(counted, sort_keys=True).encode()}
    yield Outcome(table, ledger(STAGE.name, planned), files)


def _sums(scores: list[Nats]) -> "pa.Array[Any]":
    return pa.array([float(nats.sum()) for nats in scores], pa.float64())


def choose(train: TokenShards, limit: int, seed: int) -> Rows:
    """The documents to count, ascending: all, or by a draw until ``limit`` tokens are reached."""
    lengths = np.diff(train.document_starts)
    if len(train) <= limit:
        return np.arange(len(lengths))
    draws = np.array([unit_interval(seed, "baselines", name) for name in train.ids])
    order = np.argsort(draws, kind="stable")
    before = np.cumsum(lengths[order]) - lengths[order]
    # The first one is taken even if it is longer than the limit.
    fits = (before + lengths[order] <= limit) | (before == 0)
    return np.sort(order[: int(np.argmin(fits)) if not fits.all() else len(order)])


def runs(train: TokenShards, chosen: Rows, size: int = 1 << 20) -> Iterator[Tokens]:
    """The chosen documents, neighbours together, about ``size`` tokens at a time."""
    starts, stops = train.document_starts[chosen], train.document_starts[chosen + 1]
    first = 0
    for last in range(len(chosen)):
        joined = last + 1 < len(chosen) and starts[last + 1] == stops[last]
        if not joined or stops[last] - starts[first] >= size:
            yield train.window(int(starts[first]), int(stops[last] - starts[first]))
            first = last + 1
