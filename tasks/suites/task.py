"""The stage `suites`: a released model on the items of suites, and which items its training data holds."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from tokenizers import Tokenizer

from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.fingerprint import bytes_sha256, json_sha256
from infra.dataset.ledger import Verdict, dropped, verdict_table
from infra.dataset.model_folder import model_folder
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.schemas.metrics import (
    CONTAMINATED_FILE,
    ITEMS_FILE,
    METRIC_ROWS,
    estimate_items,
    make_items,
    mark_clean,
    read_part_items,
)
from lm.models.model_kind import CAUSAL, MASKED, SEQ2SEQ
from lm.scoring.load import LOADERS, load_scorer, weights_digest
from tasks.suites.config import PAIRS
from tasks.suites.contamination import build_overlaps, contaminated_items, summarize_overlaps
from tasks.suites.flagged import score_flagged
from tasks.suites.items import Suite, SuiteError, SuiteItem
from tasks.suites.load import SuiteEntry, load_suites
from tasks.suites.prompts import make_prompts
from tasks.suites.score import SCHEMA, score_items, score_masked_items

STAGE = Stage(
    "suites",
    modules=("tasks.suites.task",),
    libraries=("numpy", "numba", "pyarrow", "tokenizers", "torch", "transformers", "sacrebleu"),
)
# Items per unit of work; fixed, so that results do not depend on the number of workers.
UNIT_ITEMS = 256
NO_PROBABILITY = "no_probability"
TOKENIZER_FILE = "tokenizer.json"
# Tasks of fine-tuned models that give texts a probability.
TEXT_TASKS = frozenset({"seq2seq", "chat", "completion"})


def spec(
    ctx: Context,  # noqa: ARG001
    *,
    suites: Sequence[SuiteEntry],
    model: Dataset,
    tokens: Dataset,
    index: Dataset,
) -> DatasetSpec:
    """Describe the results of a released model on these suites.

    The configuration is empty, so that an item is scored once by a model, whichever recipes and suites it is
    part of: the seed of a recipe decides nothing here.

    Raises:
        SuiteError: if a suite cannot be used.
    """
    return _spec(load_suites(suites), model, tokens, index)


def _spec(suites: Sequence[Suite], model: Dataset, tokens: Dataset, index: Dataset) -> DatasetSpec:
    # What a suite says of its origin is shown with the results, and so is part of the data set.
    digests = [
        json_sha256([suite.key, suite.config.license, suite.config.source]) for suite in suites
    ]
    return DatasetSpec(STAGE, model.source, {}, (model, tokens, index), tuple(digests))


def build(
    ctx: Context,
    spec: DatasetSpec,
    *,
    suites: Sequence[SuiteEntry],
    model: Dataset,
    tokens: Dataset,
    index: Dataset,
) -> Dataset:
    """Score the items of all suites, and look for them in the training data.

    Returns:
        A data set with a row per scored item (``score.SCHEMA``), the values by item
        (``infra.schemas.metrics.ITEMS``), and the statistics ``suites`` (what they are), ``kind``,
        ``metric_rows`` and ``contamination``.

    Raises:
        SuiteError: if a suite cannot be used, or is not that of the ``spec``.
    """
    loaded = load_suites(suites)
    if _spec(loaded, model, tokens, index).external_inputs != spec.external_inputs:
        raise SuiteError(
            "evaluate.suites: a file of a suite has changed while the run was working; run it again"
        )
    overlaps = build_overlaps(ctx, index, loaded)
    contaminated = contaminated_items(overlaps, loaded)
    kind = model.stats["kind"]
    eos = int(tokens.stats["eos_id"])
    scorer = [weights_digest(model), bytes_sha256(tokens.read(TOKENIZER_FILE)), eos]
    units = []
    for suite in loaded:
        prompted = list(zip(suite.items, make_prompts(suite), strict=True))
        for start in range(0, len(prompted), UNIT_ITEMS):
            group = prompted[start : start + UNIT_ITEMS]
            key = [scorer, suite_key(suite), [[item.to_json(), text] for item, text in group]]
            units.append(
                WorkUnit(json_sha256(key), (model, tokens, suite.config, group), len(group))
            )
        if suite.bad_rows:
            rows = [(name, verdict) for name, verdict in suite.bad_rows]
            key = [[name, verdict.evidence] for name, verdict in rows]
            units.append(
                WorkUnit(json_sha256(["bad rows", key]), (None, None, None, rows), len(rows))
            )

    def stats(parts: list[PartRef]) -> dict[str, Any]:
        items = mark_clean(read_part_items(parts), contaminated)
        return {
            "kind": kind,
            "suites": [describe_suite(suite) for suite in loaded],
            METRIC_ROWS: estimate_items(items),
            "contamination": summarize_overlaps(overlaps, loaded, contaminated),
        }

    files = {CONTAMINATED_FILE: json.dumps(contaminated, sort_keys=True).encode()}
    return build_dataset(ctx, spec, units, score_group, files=files, stats=stats)


def suite_key(suite: Suite) -> dict[str, Any]:
    """Return the settings of a suite that decide an item's score beside its prompt."""
    settings = suite.config.to_json()
    names = ["name", "type", "delimiter", "normalize_by", "metrics", "max_new_tokens", "stop"]
    if suite.config.type == "flagged_words":
        names += [
            "flagged_words",
            "max_flagged_fraction",
            "num_continuations",
            "temperature",
            "top_k",
        ]
    return {name: settings[name] for name in names}


def scorer_kind(model: Dataset) -> str:
    """Return the kind by which a release is loaded: that of a model tuned to write texts is that of its base."""
    kind = str(model.stats["kind"])
    if kind not in TEXT_TASKS or "task" not in model.stats:
        return kind
    config = json.loads(model.read("config.json"))
    return SEQ2SEQ.name if config.get("is_encoder_decoder") else CAUSAL.name


def describe_suite(suite: Suite) -> dict[str, Any]:
    """Return what a reader should know of a suite."""
    config = suite.config
    return {
        "name": config.name,
        "type": config.type,
        "license": config.license,
        "source": config.source,
        "num_fewshot": suite.num_fewshot,
        "items": len(suite.items),
        "bad_rows": len(suite.bad_rows),
        "digest": suite.key,
    }


def score_group(
    model: Dataset | None,
    tokens: Dataset | None,
    config: Any,
    group: Sequence[tuple[Any, Any]],
) -> Iterator[PartResult]:
    """Score a group of items with their prompts; without a model, write the verdicts on bad rows."""
    if model is None or tokens is None:
        table = verdict_table(STAGE.name, [(name, None, verdict) for name, verdict in group])
        yield PartResult(SCHEMA.empty_table(), table, {ITEMS_FILE: make_items([])})
        return
    items: list[SuiteItem] = [item for item, _ in group]
    prompts: list[str] = [prompt for _, prompt in group]
    kind = scorer_kind(model)
    names = [f"{config.name}:{item.id}" for item in items]
    is_pseudo = kind == MASKED.name and config.type in PAIRS
    if kind not in LOADERS or (kind == MASKED.name and not is_pseudo):
        verdict = dropped(NO_PROBABILITY, kind=kind, type=config.type)
        table = verdict_table(STAGE.name, [(name, None, verdict) for name in names])
        yield PartResult(SCHEMA.empty_table(), table, {ITEMS_FILE: make_items([])})
        return
    eos = int(tokens.stats["eos_id"])
    tokenizer = Tokenizer.from_buffer(tokens.read(TOKENIZER_FILE))
    scorer: Any = load_scorer(kind, model_folder(model), weights_digest(model), eos)
    if is_pseudo:
        scored = score_masked_items(config, items, scorer, tokenizer)
    elif config.type == "flagged_words":
        scored = score_flagged(config, items, prompts, scorer, tokenizer)
    else:
        scored = score_items(config, items, prompts, scorer, tokenizer, eos)
    rows = pa.Table.from_pylist([dict(item.row) for item in scored], SCHEMA)
    values = make_items(row for item in scored for row in item.item_rows())
    table = verdict_table(STAGE.name, [(name, None, Verdict()) for name in names])
    yield PartResult(rows, table, {ITEMS_FILE: values})
