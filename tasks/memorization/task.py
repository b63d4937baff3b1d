"""The stage `memorization`: a released model continues passages of its training text."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

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
    NEAR_EXACT,
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
from lm.scoring.language_model import LanguageModel, TextScorer
from lm.scoring.load import LOADERS, load_scorer, weights_digest
from tasks.memorization.canaries import CANARIES, EXPOSURE, canary_rows, measure_exposure
from tasks.memorization.personal_data import PERSONAL_DATA
from tasks.memorization.probes import HELD_OUT, auroc, choose_probes, min_k, read_probe
from tasks.memorization.probes import SCHEMA as PROBES

STAGE = Stage(
    "memorization",
    modules=("tasks.memorization.task",),
    libraries=("numpy", "numba", "pyarrow", "tokenizers", "torch", "transformers"),
)
UNIT_PROBES = 128  # fixed, so that results do not depend on the number of workers
SUITE, TRAINED = "memorization", "trained"
MAX_LISTED = 50  # passages with personal data
NO_PROBABILITY = "no_probability"
SCHEMA = pa.schema(
    [
        *PROBES,
        ("memorized", pa.list_(pa.bool_())),  # by length of the prefix
        ("greedy", pa.list_(pa.int64())),  # tokens that are the most probable ones, by the same
        ("nats", pa.float64()),  # of the continuation after the longest one
        ("min_k", pa.float64()),
        ("exposure", pa.float64()),  # of a canary, in bits
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
        by group of documents the fraction of passages that the model repeats, ``min_k_auroc``, and by group of
        canaries their exposure; and ``personal_data``, the passages of this kind that it repeats, masked.
    """
    train, held = TokenShards(tokens, TRAIN), TokenShards(tokens, VALIDATION)
    source_index = SourceIndex(index)
    probes = choose_probes(train, held, source_index, config).to_pylist()
    canaries = list(canary_rows(tokens.stats.get(CANARIES, ()), source_index))
    digest = weights_digest(model)
    units = []
    for start in range(0, len(probes), UNIT_PROBES):
        group = probes[start : start + UNIT_PROBES]
        key = json_sha256([digest, tokens.content, group])
        units.append(WorkUnit(key, (model, tokens, config, group), len(group)))
    if canaries:
        key = json_sha256([digest, tokens.content, config.canary_candidates, canaries])
        units.append(WorkUnit(key, (model, tokens, config, canaries), len(canaries)))

    def stats(parts: Sequence[PartRef]) -> dict[str, Any]:
        rows = pa.concat_tables([SCHEMA.empty_table(), *(part.table() for part in parts)])
        metrics = [*estimate_items(read_part_items(parts)), *_membership(rows)]
        return {METRIC_ROWS: metrics, PERSONAL_DATA: _repeated_personal_data(rows)}

    return build_dataset(ctx, spec, units, probe_group, stats=stats)


def _membership(rows: pa.Table) -> list[dict[str, Any]]:
    by_split: dict[str, list[float]] = {TRAIN: [], VALIDATION: []}
    columns = [rows[name].to_pylist() for name in ("split", "group", "min_k")]
    for split, group, value in zip(*columns, strict=True):
        if split is not None and group != PERSONAL_DATA:
            by_split[split].append(value)
    value = auroc(by_split[TRAIN], by_split[VALIDATION])
    if value is None:
        return []
    return [
        metric_row(metric_name(SUITE, "min_k_auroc"), Estimate(value, None, None, rows.num_rows))
    ]


def _repeated_personal_data(rows: pa.Table) -> list[dict[str, Any]]:
    """Return what the model repeats of personal data, after any prefix: the most frequent first."""
    repeated = [
        {
            key: row[key]
            for key in ("kind", "masked", "document", "url", "source", "start", "occurrences")
        }
        for row in rows.to_pylist()
        if row["group"] == PERSONAL_DATA and any(row["memorized"])
    ]
    repeated.sort(key=lambda row: (-row["occurrences"], row["start"]))
    return repeated[:MAX_LISTED]


def probe_group(
    model: Dataset, tokens: Dataset, config: MemorizationConfig, group: Sequence[dict[str, Any]]
) -> Iterator[PartResult]:
    """Let the model continue the passages of a group, or measure the exposure of canaries."""
    kind = model.stats["kind"]
    ids = [(row["id"], row.get("url")) for row in group]
    if kind not in LOADERS or kind == MASKED.name:
        verdicts = [(name, url, dropped(NO_PROBABILITY, kind=kind)) for name, url in ids]
        files = {ITEMS_FILE: make_items([])}
        yield PartResult(SCHEMA.empty_table(), verdict_table(STAGE.name, verdicts), files)
        return
    scorer: Any = load_scorer(
        kind, model_folder(model), weights_digest(model), int(tokens.stats["eos_id"])
    )
    if "canary" in group[0]:
        rows = list(_measure_canaries(group, config, scorer, tokens))
    else:
        rows = list(_continue_passages(group, config, scorer, tokens))
    items = make_items(item for row in rows for item in _item_rows(row, config))
    verdicts = [(name, url, Verdict()) for name, url in ids]
    table = pa.Table.from_pylist(rows, SCHEMA)
    yield PartResult(table, verdict_table(STAGE.name, verdicts), {ITEMS_FILE: items})


def _measure_canaries(
    group: Sequence[dict[str, Any]],
    config: MemorizationConfig,
    scorer: TextScorer,
    tokens: Dataset,
) -> Iterator[dict[str, Any]]:
    tokenizer = Tokenizer.from_buffer(tokens.read("tokenizer.json"))
    for row in group:
        known = {key: row[key] for key in ("id", "group", "occurrences")}
        value = measure_exposure(row["canary"], config.canary_candidates, scorer, tokenizer)
        yield {**known, EXPOSURE: value}


def _continue_passages(
    group: Sequence[dict[str, Any]],
    config: MemorizationConfig,
    scorer: LanguageModel,
    tokens: Dataset,
) -> Iterator[dict[str, Any]]:
    shards = {split: TokenShards(tokens, split) for split in (TRAIN, VALIDATION)}

    def read(row: dict[str, Any], prefix: int) -> tuple[Any, Any]:
        return read_probe(shards[row["split"]], row["start"], prefix, row["tokens"])

    # All tokens are the greedy choice after those before them: so greedy decoding repeats the passage.
    by_prefix = [
        scorer.score_continuations([read(row, prefix) for row in group])
        for prefix in config.prefix_tokens
    ]
    texts = scorer.score_texts(
        [np.concatenate(read(row, max(config.prefix_tokens))) for row in group]
    )
    longest = int(np.argmax(config.prefix_tokens))
    for number, row in enumerate(group):
        yield {
            **row,
            "memorized": [scored[number].is_greedy for scored in by_prefix],
            "greedy": [scored[number].num_greedy for scored in by_prefix],
            "nats": by_prefix[longest][number].nats,
            "min_k": min_k(texts[number].tolist()),
        }


def _item_rows(row: dict[str, Any], config: MemorizationConfig) -> Iterator[dict[str, Any]]:
    """Yield the values of a row, of ``infra.schemas.metrics.ITEMS``."""
    group = row["group"]
    if EXPOSURE in row:
        yield _item(row, group, EXPOSURE, row[EXPOSURE])
        return
    for name in [group] if group in (HELD_OUT, PERSONAL_DATA) else [group, TRAINED]:
        for prefix, memorized, greedy in zip(
            config.prefix_tokens, row["memorized"], row["greedy"], strict=True
        ):
            yield _item(row, name, f"{MEMORIZED}{prefix}", float(memorized))
            if group != PERSONAL_DATA:  # half of a number is not one
                is_near = greedy >= config.near_exact * row["tokens"]
                yield _item(row, name, f"{NEAR_EXACT}{prefix}", float(is_near))


def _item(row: dict[str, Any], group: str, metric: str, value: float) -> dict[str, Any]:
    names = {"suite": f"{SUITE}.{group}", "item": row["id"], "metric": metric, "value": value}
    return {**names, "cluster": row.get("document") or row["id"], "weight": 1.0}
