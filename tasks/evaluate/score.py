"""Score documents with a model and generate samples: the pure function of the stage."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from tokenizers import Tokenizer

from infra.dataset.fingerprint import json_sha256
from infra.formats.megatron import Tokens
from lm.scoring.language_model import GenerationConfig, LanguageModel, MaskedScorer
from tasks.evaluate.eval_plan import MaskSample

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("url", pa.string()),
        ("source", pa.string()),
        ("language", pa.string()),
        ("document_tokens", pa.int64()),
        ("tokens", pa.int64()),
        ("bytes", pa.int64()),
        ("model_nats", pa.float64()),  # null of a model that gives texts no probability
        ("masked_tokens", pa.int64()),  # of such a model: number of tokens that were masked
        ("masked_nats", pa.float64()),
        ("unigram_nats", pa.float64()),
        ("trigram_nats", pa.float64()),
        ("prompt", pa.string()),
        ("continuation", pa.string()),
        ("generated", pa.string()),
    ]
)


@dataclass(frozen=True)
class ScoreSettings:
    """What decides the scores and samples beside the model and the documents. Picklable.

    Attributes:
        seed: the recipe's; a sample depends on it and on the document's id.
        generation: how samples are drawn.
        masks: which tokens a masked language model predicts.
    """

    seed: int
    generation: GenerationConfig
    masks: MaskSample


def score_documents(
    rows: Sequence[dict[str, Any]],
    documents: Sequence[Tokens],
    model: LanguageModel,
    tokenizer: Tokenizer,
    settings: ScoreSettings,
) -> pa.Table:
    """Return a row of ``SCHEMA`` for each document, in order.

    Args:
        rows: the documents' rows of the plan, with ``unigram_nats`` and ``trigram_nats``.
        documents: the scored tokens of each.
        model: scores and generates.
        tokenizer: of the model.
        settings: seed and generation.
    """
    nats = [float(item.sum()) for item in model.score_texts(documents)]
    samples = _generate_samples(rows, documents, model, tokenizer, settings)
    scored = [
        {
            **row,
            "bytes": count_scored_bytes(row, ids, tokenizer),
            "model_nats": total,
            **samples.get(index, {}),
        }
        for index, (row, ids, total) in enumerate(zip(rows, documents, nats, strict=True))
    ]
    return _to_table(scored)


def score_masked(
    rows: Sequence[dict[str, Any]],
    documents: Sequence[Tokens],
    model: MaskedScorer,
    tokenizer: Tokenizer,
    settings: ScoreSettings,
) -> pa.Table:
    """Return a row of ``SCHEMA`` for each document, in order, scored by a masked language model."""
    positions = [
        settings.masks.choose(row["id"], ids, model.eos)
        for row, ids in zip(rows, documents, strict=True)
    ]
    nats = model.score_tokens(documents, positions)
    scored = [
        {
            **row,
            "bytes": count_scored_bytes(row, ids, tokenizer),
            "masked_tokens": len(values),
            "masked_nats": float(values.sum()),
        }
        for row, ids, values in zip(rows, documents, nats, strict=True)
    ]
    return _to_table(scored)


def _to_table(scored: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(
        [{name: row.get(name) for name in SCHEMA.names} for row in scored], schema=SCHEMA
    )


def count_scored_bytes(row: dict[str, Any], ids: Tokens, tokenizer: Tokenizer) -> int:
    """Count the UTF-8 bytes of the text of ``ids``; the end of text has none.

    If a document is scored in part, its scored tokens are decoded. This is exact unless the last
    character is incomplete, which then counts as the 3 bytes of U+FFFD.
    """
    if len(ids) == row["document_tokens"]:
        return int(row["document_bytes"])
    return len(decode(tokenizer, ids.tolist()).encode())


def decode(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Decode tokens, special ones included."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=False))


def _generate_samples(
    rows: Sequence[dict[str, Any]],
    documents: Sequence[Tokens],
    model: LanguageModel,
    tokenizer: Tokenizer,
    settings: ScoreSettings,
) -> dict[int, dict[str, str]]:
    chosen = [index for index, row in enumerate(rows) if row["prompt_tokens"]]
    prompts = [documents[index][: rows[index]["prompt_tokens"]] for index in chosen]
    seeds = [
        int(json_sha256([settings.seed, "generate", rows[index]["id"]])[:16], 16)
        for index in chosen
    ]
    generation = settings.generation
    generated = model.generate(prompts, seeds, generation)
    return {
        index: {
            "prompt": decode(tokenizer, prompt.tolist()),
            "continuation": decode(
                tokenizer,
                documents[index][len(prompt) : len(prompt) + generation.max_new_tokens].tolist(),
            ),
            "generated": decode(tokenizer, ids),
        }
        for index, prompt, ids in zip(chosen, prompts, generated, strict=True)
    }
