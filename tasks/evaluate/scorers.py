"""How texts are scored by each kind of model: the one list of kinds that the stage knows.

A model that gives texts no score at all, word vectors, is measured by gold sets instead.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import pyarrow as pa

from lm.models.model_kind import CAUSAL, COUNTS, MASKED, SEQ2SEQ
from tasks.evaluate.score import score_documents, score_masked

# Keys of the section `evaluate` that decide results, in addition to those of the plan.
GENERATION = frozenset({"num_samples", "prompt_tokens", "max_new_tokens", "temperature", "top_k"})
PLAN = frozenset({"max_documents", "max_tokens", "max_document_tokens", "baseline_max_tokens"})


@dataclass(frozen=True)
class TextScoring:
    """How a kind of model scores texts.

    Attributes:
        score: returns rows of ``score.SCHEMA`` from the rows of the plan, the documents, the model, its
            tokenizer and ``ScoreSettings``.
        settings: keys of the section `evaluate` that the result depends on.
    """

    score: Callable[..., pa.Table]
    settings: frozenset[str]


TEXT_SCORINGS: Mapping[str, TextScoring] = MappingProxyType(
    {
        CAUSAL.name: TextScoring(score_documents, PLAN | GENERATION),
        SEQ2SEQ.name: TextScoring(score_documents, PLAN | GENERATION),
        COUNTS.name: TextScoring(score_documents, PLAN | GENERATION),
        MASKED.name: TextScoring(score_masked, PLAN | {"max_masked_tokens"}),
    }
)
