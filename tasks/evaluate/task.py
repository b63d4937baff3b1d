"""The stage `evaluate`: score the held-out documents with the baselines and the released model."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer

from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.fingerprint import json_sha256
from infra.dataset.ledger import verdict_table
from infra.dataset.model_folder import model_folder
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.errors import UserError
from infra.formats.megatron import VALIDATION, TokenShards
from infra.schemas.metrics import (
    ITEMS_FILE,
    METRIC_ROWS,
    estimate_items,
    make_items,
    read_part_items,
)
from lm.interpret import MAX_PARAMETERS
from lm.models.embedding.files import WordVectors
from lm.models.model_kind import CAUSAL, MASKED, SEQ2SEQ, VECTORS
from lm.scoring.language_model import GenerationConfig
from lm.scoring.load import load_scorer, weights_digest
from tasks.evaluate import word_vectors
from tasks.evaluate.baselines import COUNTED_FILE, build_baselines
from tasks.evaluate.config import EvaluateConfig, WordVectorsConfig
from tasks.evaluate.eval_plan import MaskSample, batches, plan_documents, plan_ledger
from tasks.evaluate.gold_sets import GoldSet, GoldSetError, load_gold_sets
from tasks.evaluate.metrics import compute_metrics, document_items
from tasks.evaluate.score import SCHEMA, ScoreSettings
from tasks.evaluate.scorers import TEXT_SCORINGS, TextScoring

STAGE = Stage(
    "evaluate",
    modules=("tasks.evaluate.task",),
    libraries=("numpy", "numba", "pyarrow", "tokenizers", "torch", "transformers"),
)


EXPLAINED_KINDS = (CAUSAL.name, MASKED.name, SEQ2SEQ.name)
INTERPRETATION_FILE = "interpretation.json"


class NoValidationDataError(UserError):
    """The token shards have no validation split."""


def spec(ctx: Context, *, config: EvaluateConfig, model: Dataset, tokens: Dataset) -> DatasetSpec:
    """Describe the data set to build from this model and these held-out documents, or gold sets.

    Only the settings that concern this kind of model are part of it.

    Raises:
        GoldSetError: if a file for word vectors cannot be read.
    """
    settings = config.to_json()
    vectors = settings.pop("word_vectors")
    if not _is_word_vectors(model):
        names = _text_scoring(model).settings
        settings = {name: value for name, value in settings.items() if name in names}
        return DatasetSpec(STAGE, model.source, {"seed": ctx.seed, **settings}, (model, tokens))
    vectors |= {"similarity": [], "analogies": []}  # URLs may hold secrets; digests stand for them
    digests = _digests(load_gold_sets(config.word_vectors))
    settings = {"word_vectors": vectors}
    return DatasetSpec(STAGE, model.source, settings, (model, tokens), digests)


def build(
    ctx: Context, spec: DatasetSpec, *, config: EvaluateConfig, model: Dataset, tokens: Dataset
) -> Dataset:
    """Score held-out documents with a released model and with the baselines; or word vectors.

    Returns:
        A data set with a row per scored document, and the statistics ``metrics``, ``metric_rows``, ``samples`` and
        ``baselines`` (what was counted); of a neural model ``interpretation`` (``explain_document``), or
        ``too_large_to_explain``: its number of parameters. Of word vectors a row per scored row of a gold set,
        and the statistics ``metrics``, ``metric_rows``, ``neighbors`` and ``projection``.

    Raises:
        NoValidationDataError: if the validation split is empty.
        GoldSetError: if a file for word vectors cannot be read, or is not that of the ``spec``.
    """
    if _is_word_vectors(model):
        return _build_word_vectors(ctx, spec, config.word_vectors, model)
    shards = TokenShards(tokens, VALIDATION)
    if shards.num_documents == 0:
        raise NoValidationDataError(
            "no document is held out, so there is nothing to evaluate on: set "
            "tokenize.validation_fraction above 0 (two different documents are enough), or leave "
            "evaluate out of the recipe"
        )
    if "num_samples" not in _text_scoring(model).settings:
        config = config.model_copy(update={"num_samples": 0})
    planned = plan_documents(shards, config, ctx.seed)
    baselines = build_baselines(ctx, tokens, planned, config.baseline_max_tokens)
    [counted] = baselines.parts
    nats = counted.table(["unigram_nats", "trigram_nats"])
    planned_tokens = sum(planned["tokens"].to_pylist())
    settings = ScoreSettings(
        ctx.seed,
        GenerationConfig(config.max_new_tokens, config.temperature, config.top_k),
        MaskSample(ctx.seed, config.max_masked_tokens / max(1, planned_tokens)),
    )
    units, at = [], 0
    for group in batches(planned):
        rows = sum(tokens > 0 for tokens in group["tokens"].to_pylist())
        group_nats = nats.slice(at, rows)
        at += rows
        key = json_sha256(
            [weights_digest(model), tokens.content, group.to_pylist(), group_nats.to_pylist()]
        )
        scoring = (group_nats, settings)
        units.append(WorkUnit(key, (model, tokens, group, scoring), group.num_rows))
    kind, parameters = model.stats["kind"], int(model.stats["parameters"])
    is_interpreted = kind in EXPLAINED_KINDS and planned_tokens > 0
    if is_interpreted and parameters <= MAX_PARAMETERS:
        shown = _first_document(planned)
        key = json_sha256(
            [weights_digest(model), tokens.content, shown.to_pylist(), INTERPRETATION_FILE]
        )
        units.append(WorkUnit(key, (model, tokens, shown, None)))

    def stats(parts: list[PartRef]) -> dict[str, Any]:
        summary = summarize(parts, kind)
        if is_interpreted and parameters > MAX_PARAMETERS:
            summary["too_large_to_explain"] = parameters
        elif is_interpreted:
            drawn = parts[-1].storage.read(parts[-1].file(INTERPRETATION_FILE))
            summary["interpretation"] = json.loads(drawn)
        return {
            "baselines": json.loads(counted.storage.read(counted.file(COUNTED_FILE))),
            **summary,
        }

    return build_dataset(ctx, spec, units, run_unit, stats=stats)


def run_unit(
    model: Dataset,
    tokens: Dataset,
    documents: pa.Table,
    scoring: tuple[pa.Table, ScoreSettings] | None,
) -> Iterator[PartResult]:
    """Score planned documents; or, without settings, explain what the model makes of the only one.

    Both are units of work: the number of threads, and with it the last digits, is that of the process, which has
    one unit at a time.
    """
    if scoring is not None:
        yield from score_batch(model, tokens, documents, *scoring)
        return
    (row,) = documents.to_pylist()
    drawn = explain_document(model, tokens, row)
    files = {INTERPRETATION_FILE: json.dumps(drawn, ensure_ascii=False).encode()}
    yield PartResult(SCHEMA.empty_table(), verdict_table(STAGE.name, []), files)


def _first_document(planned: pa.Table) -> pa.Table:
    """Return the scored document that is the first by id, a table of one row."""
    scored = planned.filter(pc.greater(planned["tokens"], 0))
    return scored.sort_by("id").slice(0, 1).combine_chunks()


def explain_document(
    model: Dataset, tokens: Dataset, row: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return what a model makes of the beginning of a document.

    Returns:
        ``id``, ``url`` and ``source`` of the document, and what ``interpret_model`` says; ``None`` if it says nothing.
    """
    from lm.interpret.interpretation import MAX_TOKENS, interpret_model
    from lm.interpret.released import ReleasedModel
    from lm.models.hf_auto import load_with_tokenizer
    from lm.models.single_thread import single_thread

    ids = TokenShards(tokens, VALIDATION).read(row["start"], min(row["tokens"], MAX_TOKENS))
    tokenizer = Tokenizer.from_buffer(tokens.read("tokenizer.json"))
    text = tokenizer.decode(ids.tolist(), skip_special_tokens=True)
    loaded, own_tokenizer = load_with_tokenizer(model_folder(model))
    released = ReleasedModel(loaded, own_tokenizer, type(loaded).__name__)
    with single_thread():
        drawn = interpret_model(released, released.encode(text, MAX_TOKENS))
    if drawn is None:
        return None
    return {**{name: row[name] for name in ("id", "url", "source")}, **drawn}


def _is_word_vectors(model: Dataset) -> bool:
    return bool(model.stats["kind"] == VECTORS.name)


def _text_scoring(model: Dataset) -> TextScoring:
    kind = model.stats["kind"]
    if kind not in TEXT_SCORINGS:
        raise UserError(
            f"evaluate: {model.source} is a model of the kind {kind}, which scores no texts"
        )
    return TEXT_SCORINGS[kind]


def _build_word_vectors(
    ctx: Context, spec: DatasetSpec, config: WordVectorsConfig, model: Dataset
) -> Dataset:
    sets = load_gold_sets(config)
    if _digests(sets) != spec.external_inputs:
        raise GoldSetError(
            "evaluate.word_vectors: a file of similarity or analogies has changed while the run was working; "
            "run it again"
        )
    digest = weights_digest(model)
    units = [WorkUnit(json_sha256([digest, gold.key]), (model, gold)) for gold in sets]
    units.append(WorkUnit(json_sha256([digest, "neighbors"]), (model, config)))

    def stats(parts: list[PartRef]) -> dict[str, Any]:
        scored = pa.concat_tables([part.table() for part in parts])
        written, projected = (
            parts[-1].storage.read(parts[-1].file(name))
            for name in (word_vectors.NEIGHBORS_FILE, word_vectors.PROJECTION_FILE)
        )
        return {
            "metrics": word_vectors.summarize(sets, scored),
            METRIC_ROWS: word_vectors.metric_rows(sets, scored, read_part_items(parts)),
            "neighbors": json.loads(written),
            "projection": json.loads(projected),
        }

    return build_dataset(ctx, spec, units, score_vectors, stats=stats)


def _digests(sets: Sequence[GoldSet]) -> tuple[str, ...]:
    return tuple(json_sha256(gold.key) for gold in sets)


def score_vectors(model: Dataset, task: GoldSet | WordVectorsConfig) -> Iterator[PartResult]:
    """Score one file of word pairs or analogies, or find nearest neighbors."""
    vectors = WordVectors.load(model_folder(model))
    if isinstance(task, GoldSet):
        yield word_vectors.score_gold_set(vectors, task, STAGE.name)
    else:
        yield word_vectors.find_neighbors(vectors, task, STAGE.name)


def score_batch(
    model: Dataset, tokens: Dataset, batch: pa.Table, nats: pa.Table, settings: ScoreSettings
) -> Iterator[PartResult]:
    """Score one batch of planned documents."""
    shards = TokenShards(tokens, VALIDATION)
    rows = [row for row in batch.to_pylist() if row["tokens"]]
    if not rows:
        yield PartResult(SCHEMA.empty_table(), plan_ledger(STAGE.name, batch))
        return
    scored = [{**row, **counted} for row, counted in zip(rows, nats.to_pylist(), strict=True)]
    documents = [shards.read(row["start"], row["tokens"]) for row in rows]
    tokenizer = Tokenizer.from_buffer(tokens.read("tokenizer.json"))
    eos = int(tokens.stats["eos_id"])
    kind = model.stats["kind"]
    scorer = load_scorer(kind, model_folder(model), weights_digest(model), eos)
    table = TEXT_SCORINGS[kind].score(scored, documents, scorer, tokenizer, settings)
    files = {ITEMS_FILE: make_items(document_items(table))}
    yield PartResult(table, plan_ledger(STAGE.name, batch), files)


def summarize(parts: list[PartRef], kind: str) -> dict[str, Any]:
    """Return the statistics ``metrics`` and ``samples`` of a finished evaluation of a kind of model."""
    scores = pa.concat_tables([SCHEMA.empty_table(), *(part.table() for part in parts)])
    sample_columns = ("id", "url", "source", "language", "prompt", "continuation", "generated")
    return {
        "metrics": {"kind": kind, **compute_metrics(scores)},
        METRIC_ROWS: estimate_items(read_part_items(parts)),
        "samples": [
            {name: row[name] for name in sample_columns}
            for row in scores.to_pylist()
            if row["prompt"] is not None
        ],
    }
