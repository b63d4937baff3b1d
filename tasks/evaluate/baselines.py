"""The data set of the baselines: counted and scored once for all models."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.dataset.dataset import Dataset
from infra.dataset.fingerprint import hash_to_unit, json_sha256
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.formats.megatron import TRAIN, VALIDATION, Tokens, TokenShards
from lm.models.ngram.estimate import estimate_model
from lm.models.ngram.model import NgramModel
from lm.models.ngram.windows import WindowFormat
from tasks.evaluate.eval_plan import plan_ledger

Rows = npt.NDArray[np.int64]

STAGE = Stage("baselines", modules=("tasks.evaluate.baselines",), libraries=("numpy", "pyarrow"))
COUNTED_FILE = "counted.json"
TRIGRAM = 3


def build_baselines(ctx: Context, tokens: Dataset, planned: pa.Table, max_tokens: int) -> Dataset:
    """Score what ``plan_documents`` returned with the unigram and the 3-gram.

    At most ``max_tokens`` tokens of the training split are counted. They are the same for all models,
    whichever draws samples.
    """
    planned = planned.drop_columns(["prompt_tokens"])
    key = json_sha256([tokens.content, planned.to_pylist()])
    unit = WorkUnit(key, (tokens, planned, max_tokens, ctx.seed), planned.num_rows)
    spec = DatasetSpec(
        STAGE, None, {"seed": ctx.seed, "baseline_max_tokens": max_tokens, "plan": key}, (tokens,)
    )
    return build_dataset(ctx, spec, [unit], score_baselines)


def score_baselines(
    tokens: Dataset, planned: pa.Table, max_tokens: int, seed: int
) -> Iterator[PartResult]:
    """Count the training split and score the planned documents."""
    vocabulary, eos = int(tokens.stats["vocab_size"]), int(tokens.stats["eos_id"])
    train, held = TokenShards(tokens, TRAIN), TokenShards(tokens, VALIDATION)
    chosen = choose_documents(train, max_tokens, seed)
    window = WindowFormat(vocabulary, eos, TRIGRAM)
    rows = np.concatenate(
        [
            np.zeros((0, window.width), np.uint64),
            *(window.pack(stream) for stream in contiguous_runs(train, chosen)),
        ]
    )
    unigram, trigram = (estimate_model(rows, window, (0,) * order) for order in (1, TRIGRAM))
    plan = [row for row in planned.to_pylist() if row["tokens"]]
    documents = [held.read(row["start"], row["tokens"]) for row in plan]
    table = pa.table(
        {
            "id": pa.array([row["id"] for row in plan], pa.string()),
            "unigram_nats": _sum_nats(unigram, documents),
            "trigram_nats": _sum_nats(trigram, documents),
        }
    )
    counted = {
        "documents": len(chosen),
        "tokens": len(rows),
        "split_tokens": len(train),
        "bigrams": trigram.sizes[1],
        "trigrams": trigram.sizes[2],
    }
    files = {COUNTED_FILE: json.dumps(counted, sort_keys=True).encode()}
    yield PartResult(table, plan_ledger(STAGE.name, planned), files)


def _sum_nats(model: NgramModel, documents: list[Tokens]) -> "pa.Array[Any]":
    return pa.array([float(model.score(ids).sum()) for ids in documents], pa.float64())


def choose_documents(train: TokenShards, max_tokens: int, seed: int) -> Rows:
    """Choose the documents to count: all, or by a draw until ``max_tokens`` is reached; ascending."""
    lengths = np.diff(train.document_starts)
    if len(train) <= max_tokens:
        return np.arange(len(lengths))
    draws = np.array([hash_to_unit(seed, "baselines", name) for name in train.ids])
    order = np.argsort(draws, kind="stable")
    before = np.cumsum(lengths[order]) - lengths[order]
    # The first document is counted even if it is longer than the limit.
    fits = (before + lengths[order] <= max_tokens) | (before == 0)
    return np.sort(order[: int(np.argmin(fits)) if not fits.all() else len(order)])


def contiguous_runs(
    train: TokenShards, chosen: Rows, chunk_tokens: int = 1 << 20
) -> Iterator[Tokens]:
    """Yield the chosen documents, adjacent ones together, about ``chunk_tokens`` tokens at a time."""
    starts, stops = train.document_starts[chosen], train.document_starts[chosen + 1]
    first = 0
    for last in range(len(chosen)):
        is_adjacent = last + 1 < len(chosen) and starts[last + 1] == stops[last]
        if not is_adjacent or stops[last] - starts[first] >= chunk_tokens:
            yield train.read(int(starts[first]), int(stops[last] - starts[first]))
            first = last + 1
