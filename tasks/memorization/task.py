"""The stage `memorization`: a released model continues passages of its training text."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.fingerprint import json_sha256
from infra.dataset.ledger import Verdict, dropped, verdict_table
from infra.dataset.model_folder import model_folder
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.formats.megatron import TRAIN, VALIDATION, TokenShards
from infra.schemas.metrics import (
    ITEMS_FILE,
    MEMORIZED,
    METRIC_ROWS,
    estimate_items,
    make_items,
    metric_name,
    metric_row,
    read_part_items,
)
from infra.statistics.bootstrap import Estimate
from infra.suffix_array.source_index import SourceIndex
from lm.config.memorization import MemorizationConfig
from lm.models.model_kind import MASKED
from lm.scoring.load import LOADERS, load_scorer, weights_digest
from tasks.memorization.probes import HELD_OUT, auroc, choose_probes, min_k, read_probe
from tasks.memorization.probes import SCHEMA as PROBES

STAGE = Stage(
    "memorization",
    modules=("tasks.memorization.task",),
    libraries=("numpy", "numba", "pyarrow", "tokenizers", "torch", "transformers"),
)
UNIT_PROBES = 128  # fixed, so that results do not depend on the number of workers
SUITE, TRAINED = "memorization", "trained"
NO_PROBABILITY = "no_probability"
SCHEMA = pa.schema(
    [
        *PROBES,
        ("memorized", pa.list_(pa.bool_())),  # by length of the prefix
        ("nats", pa.float64()),  # of the continuation after the longest one
        ("min_k", pa.float64()),
    ]
)


def spec(
    ctx: Context,  # noqa: ARG001
    *,
    config: MemorizationConfig,
    model: Dataset,
    tokens: Dataset,
    index: Dataset,
) -> DatasetSpec:
    """Describe how much a released model repeats of these token shards."""
    return DatasetSpec(STAGE, model.source, config.to_json(), (model, tokens, index))


def build(
    ctx: Context,
    spec: DatasetSpec,
    *,
    config: MemorizationConfig,
    model: Dataset,
    tokens: Dataset,
    index: Dataset,
) -> Dataset:
    """Let a model continue passages of training documents and of held-out ones.

    Returns:
        A data set with a row per passage (``SCHEMA``), the values by item, and the statistic ``metric_rows``:
        by group of documents the fraction of passages that the model repeats, and ``min_k_auroc``.
    """
    train, held = TokenShards(tokens, TRAIN), TokenShards(tokens, VALIDATION)
    probes = choose_probes(train, held, SourceIndex(index), config).to_pylist()
    digest = weights_digest(model)
    units = []
    for start in range(0, len(probes), UNIT_PROBES):
        group = probes[start : start + UNIT_PROBES]
        key = json_sha256([digest, tokens.content, group])
        units.append(WorkUnit(key, (model, tokens, config, group), len(group)))

    def stats(parts: Sequence[PartRef]) -> dict[str, Any]:
        rows = pa.concat_tables([SCHEMA.empty_table(), *(part.table() for part in parts)])
        return {METRIC_ROWS: [*estimate_items(read_part_items(parts)), *_membership(rows)]}

    return build_dataset(ctx, spec, units, probe_group, stats=stats)


def _membership(rows: pa.Table) -> list[dict[str, Any]]:
    by_split: dict[str, list[float]] = {TRAIN: [], VALIDATION: []}
    for split, value in zip(rows["split"].to_pylist(), rows["min_k"].to_pylist(), strict=True):
        by_split[split].append(value)
    value = auroc(by_split[TRAIN], by_split[VALIDATION])
    if value is None:
        return []
    return [
        metric_row(metric_name(SUITE, "min_k_auroc"), Estimate(value, None, None, rows.num_rows))
    ]


def probe_group(
    model: Dataset, tokens: Dataset, config: MemorizationConfig, group: Sequence[dict[str, Any]]
) -> Iterator[PartResult]:
    """Let the model continue the passages of a group."""
    kind = model.stats["kind"]
    ids = [(row["id"], row["url"]) for row in group]
    if kind not in LOADERS or kind == MASKED.name:
        verdicts = [(name, url, dropped(NO_PROBABILITY, kind=kind)) for name, url in ids]
        files = {ITEMS_FILE: make_items([])}
        yield PartResult(SCHEMA.empty_table(), verdict_table(STAGE.name, verdicts), files)
        return
    scorer: Any = load_scorer(
        kind, model_folder(model), weights_digest(model), int(tokens.stats["eos_id"])
    )
    shards = {split: TokenShards(tokens, split) for split in (TRAIN, VALIDATION)}
    size = config.continuation_tokens

    def read(row: dict[str, Any], prefix: int) -> tuple[Any, Any]:
        return read_probe(shards[row["split"]], row["start"], prefix, size)

    # All tokens are the greedy choice after those before them: so greedy decoding repeats the passage.
    by_prefix = [
        scorer.score_continuations([read(row, prefix) for row in group])
        for prefix in config.prefix_tokens
    ]
    texts = scorer.score_texts(
        [np.concatenate(read(row, max(config.prefix_tokens))) for row in group]
    )
    longest = int(np.argmax(config.prefix_tokens))
    rows = [
        {
            **row,
            "memorized": [scored[number].is_greedy for scored in by_prefix],
            "nats": by_prefix[longest][number].nats,
            "min_k": min_k(texts[number].tolist()),
        }
        for number, row in enumerate(group)
    ]
    items = make_items(item for row in rows for item in _item_rows(row, config))
    verdicts = [(name, url, Verdict()) for name, url in ids]
    table = pa.Table.from_pylist(rows, SCHEMA)
    yield PartResult(table, verdict_table(STAGE.name, verdicts), {ITEMS_FILE: items})


def _item_rows(row: dict[str, Any], config: MemorizationConfig) -> Iterator[dict[str, Any]]:
    groups = [row["group"]] if row["group"] == HELD_OUT else [row["group"], TRAINED]
    for group in groups:
        for prefix, value in zip(config.prefix_tokens, row["memorized"], strict=True):
            yield {
                "suite": f"{SUITE}.{group}",
                "item": row["id"],
                "cluster": row["id"],
                "metric": f"{MEMORIZED}{prefix}",
                "value": float(value),
                "weight": 1.0,
            }
