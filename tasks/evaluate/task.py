"""The stage `evaluate`: score the held-out documents with the baselines and the released model."""

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from tokenizers import Tokenizer

from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.fingerprint import json_sha256
from infra.dataset.model_folder import MODEL_CONFIG, model_folder
from infra.dataset.stage import Context, DatasetSpec, PartResult, Stage, WorkUnit, build_dataset
from infra.errors import UserError
from infra.formats.megatron import VALIDATION, TokenShards
from lm.models.embedding.export import FORMAT as WORD_VECTORS_FORMAT
from lm.models.embedding.files import WordVectors
from tasks.evaluate import word_vectors
from tasks.evaluate.baselines import COUNTED_FILE, build_baselines
from tasks.evaluate.config import EvaluateConfig, WordVectorsConfig
from tasks.evaluate.eval_plan import MaskSample, batches, plan_documents, plan_ledger
from tasks.evaluate.gold_sets import GoldSet, load_gold_sets
from tasks.evaluate.language_model import GenerationConfig, LanguageModel, MaskedScorer
from tasks.evaluate.metrics import compute_metrics
from tasks.evaluate.score import SCHEMA, score_documents, score_masked

STAGE = Stage(
    "evaluate",
    modules=("tasks.evaluate.task",),
    libraries=("numpy", "pyarrow", "tokenizers", "torch", "transformers"),
)


class NoValidationDataError(UserError):
    """The token shards have no validation split."""


def spec(ctx: Context, *, config: EvaluateConfig, model: Dataset, tokens: Dataset) -> DatasetSpec:
    """Describe the data set to build from this model and these held-out documents, or gold sets.

    Raises:
        GoldSetError: if a file for word vectors cannot be read.
    """
    settings = config.to_json()
    vectors = settings.pop("word_vectors")
    if not is_word_vectors(model):
        return DatasetSpec(STAGE, model.source, {"seed": ctx.seed, **settings}, (model, tokens))
    vectors |= {"similarity": [], "analogies": []}  # URLs may hold secrets; digests stand for them
    digests = tuple(json_sha256(gold.key) for gold in load_gold_sets(config.word_vectors))
    settings = {"word_vectors": vectors}
    return DatasetSpec(STAGE, model.source, settings, (model, tokens), digests)


def build(
    ctx: Context, spec: DatasetSpec, *, config: EvaluateConfig, model: Dataset, tokens: Dataset
) -> Dataset:
    """Score held-out documents with a released model and with the baselines; or word vectors.

    Returns:
        A data set with a row per scored document, and the statistics ``metrics``, ``samples`` and
        ``baselines`` (what was counted). Of word vectors a row per scored row of a gold set, and
        the statistics ``metrics`` and ``neighbors``.

    Raises:
        NoValidationDataError: if the validation split is empty.
        GoldSetError: if a file for word vectors cannot be read.
    """
    if is_word_vectors(model):
        return _build_word_vectors(ctx, spec, config.word_vectors, model)
    shards = TokenShards(tokens, VALIDATION)
    if shards.num_documents == 0:
        raise NoValidationDataError(
            "no document is held out, so there is nothing to evaluate on: set "
            "tokenize.validation_fraction above 0 (two different documents are enough), or leave "
            "evaluate out of the recipe"
        )
    planned = plan_documents(shards, config, ctx.seed)
    baselines = build_baselines(ctx, tokens, planned, config.baseline_max_tokens)
    [counted] = baselines.parts
    nats = counted.table(["unigram_nats", "trigram_nats"])
    planned_tokens = sum(planned["tokens"].to_pylist())
    settings = {
        "seed": ctx.seed,
        "mask_sample": MaskSample(ctx.seed, config.max_masked_tokens / max(1, planned_tokens)),
        "generation": GenerationConfig(config.max_new_tokens, config.temperature, config.top_k),
    }
    units, at = [], 0
    for group in batches(planned):
        rows = sum(tokens > 0 for tokens in group["tokens"].to_pylist())
        group_nats = nats.slice(at, rows)
        at += rows
        key = json_sha256(
            [weights_digest(model), tokens.content, group.to_pylist(), group_nats.to_pylist()]
        )
        units.append(WorkUnit(key, (model, tokens, group, group_nats, settings), group.num_rows))
    stats = {"baselines": json.loads(counted.storage.read(counted.file(COUNTED_FILE)))}
    return build_dataset(
        ctx, spec, units, score_batch, stats=lambda parts: {**stats, **summarize(parts)}
    )


def is_word_vectors(model: Dataset) -> bool:
    """Return whether a released model is word vectors, which give no probability to a text."""
    return model.stats.get("format") == WORD_VECTORS_FORMAT


def _build_word_vectors(
    ctx: Context, spec: DatasetSpec, config: WordVectorsConfig, model: Dataset
) -> Dataset:
    sets = load_gold_sets(config)
    digest = weights_digest(model)
    units = [WorkUnit(json_sha256([digest, gold.key]), (model, gold)) for gold in sets]

    def stats(parts: list[PartRef]) -> dict[str, Any]:
        tables = [part.table() for part in parts]
        scored = pa.concat_tables([word_vectors.SCHEMA.empty_table(), *tables])
        rows = [part.record.counts.n_in for part in parts]
        neighbors = word_vectors.find_neighbors(
            WordVectors.load(model_folder(model)),
            config.neighbors,
            config.num_neighbors,
            config.num_frequent,
        )
        metrics = word_vectors.summarize(sets, rows, scored)
        return {"metrics": metrics, "neighbors": neighbors}

    return build_dataset(ctx, spec, units, score_gold_set, stats=stats)


def score_gold_set(model: Dataset, gold: GoldSet) -> Iterator[PartResult]:
    """Score one file of word pairs or analogies."""
    yield word_vectors.score_gold_set(WordVectors.load(model_folder(model)), gold, STAGE.name)


def score_batch(
    model: Dataset, tokens: Dataset, batch: pa.Table, nats: pa.Table, settings: dict[str, Any]
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
    scorer = _load_model(model_folder(model), weights_digest(model), eos)
    if isinstance(scorer, MaskedScorer):
        table = score_masked(scored, documents, scorer, tokenizer, settings["mask_sample"])
    else:
        generation, seed = settings["generation"], settings["seed"]
        table = score_documents(scored, documents, scorer, tokenizer, generation, seed)
    yield PartResult(table, plan_ledger(STAGE.name, batch))


@lru_cache(maxsize=1)
def _load_model(folder: Path, weights_sha256: str, eos: int) -> LanguageModel | MaskedScorer:  # noqa: ARG001
    """Load a model and keep it for the next batch; ``weights_sha256`` identifies it."""
    config = json.loads((folder / MODEL_CONFIG).read_text())
    if config.get("family") == "ngram":
        from lm.models.ngram.files import load_model
        from tasks.evaluate.ngram import NgramLanguageModel

        return NgramLanguageModel(load_model(folder))
    if config.get("is_encoder_decoder"):
        from tasks.evaluate.seq2seq import Seq2SeqModel

        return Seq2SeqModel(folder, eos)
    if config["architectures"][0].endswith("ForMaskedLM"):
        from tasks.evaluate.masked import MaskedModel

        return MaskedModel(folder, eos)
    from tasks.evaluate.huggingface import HuggingFaceModel

    return HuggingFaceModel(folder, eos)


def weights_digest(model: Dataset) -> str:
    """Return the digest of the files that decide a released model's scores: weights, config, own code."""
    files = model.manifest.files.items()
    return json_sha256(
        sorted(
            [name, file.sha256]
            for name, file in files
            if name.endswith((".safetensors", ".safetensors.index.json", ".py", MODEL_CONFIG))
        )
    )


def summarize(parts: list[PartRef]) -> dict[str, Any]:
    """Return the statistics ``metrics`` and ``samples`` of a finished evaluation."""
    scores = pa.concat_tables([SCHEMA.empty_table(), *(part.table() for part in parts)])
    sample_columns = ("id", "url", "source", "language", "prompt", "continuation", "generated")
    return {
        "metrics": compute_metrics(scores),
        "samples": [
            {name: row[name] for name in sample_columns}
            for row in scores.to_pylist()
            if row["prompt"] is not None
        ],
    }
