"""How texts are scored by each kind of model: the one list of kinds that the stage knows.

A model that gives texts no score at all, word vectors, is measured by gold sets instead.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from lm.models.model_kind import CAUSAL, COUNTS, MASKED, SEQ2SEQ
from tasks.evaluate.language_model import LanguageModel, MaskedScorer
from tasks.evaluate.score import score_documents, score_masked

# Keys of the section `evaluate` that decide results, in addition to those of the plan.
GENERATION = frozenset({"num_samples", "prompt_tokens", "max_new_tokens", "temperature", "top_k"})
PLAN = frozenset({"max_documents", "max_tokens", "max_document_tokens", "baseline_max_tokens"})


@dataclass(frozen=True)
class TextScoring:
    """How a kind of model scores texts.

    Attributes:
        load: returns the model in a folder that ``release`` wrote; the id is that which ends documents.
        score: returns rows of ``score.SCHEMA`` from the rows of the plan, the documents, the model, its
            tokenizer and ``ScoreSettings``.
        settings: keys of the section `evaluate` that the result depends on.
    """

    load: Callable[[Path, int], Any]
    score: Callable[..., pa.Table]
    settings: frozenset[str]


def _load_causal(folder: Path, eos: int) -> LanguageModel:
    from tasks.evaluate.huggingface import HuggingFaceModel

    return HuggingFaceModel(folder, eos)


def _load_seq2seq(folder: Path, eos: int) -> LanguageModel:
    from tasks.evaluate.seq2seq import Seq2SeqModel

    return Seq2SeqModel(folder, eos)


def _load_masked(folder: Path, eos: int) -> MaskedScorer:
    from tasks.evaluate.masked import MaskedModel

    return MaskedModel(folder, eos)


def _load_counts(folder: Path, eos: int) -> LanguageModel:  # noqa: ARG001
    from lm.models.ngram.files import load_model
    from tasks.evaluate.ngram import NgramLanguageModel

    return NgramLanguageModel(load_model(folder))


TEXT_SCORINGS: Mapping[str, TextScoring] = MappingProxyType(
    {
        CAUSAL.name: TextScoring(_load_causal, score_documents, PLAN | GENERATION),
        SEQ2SEQ.name: TextScoring(_load_seq2seq, score_documents, PLAN | GENERATION),
        COUNTS.name: TextScoring(_load_counts, score_documents, PLAN | GENERATION),
        MASKED.name: TextScoring(_load_masked, score_masked, PLAN | {"max_masked_tokens"}),
    }
)
