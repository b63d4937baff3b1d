"""The boundary between evaluation and models: whatever has these methods can be measured.

Three methods, as in lm-evaluation-harness: score a text, score a continuation, generate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from infra.formats.megatron import Tokens

Nats = npt.NDArray[np.float64]


class TextScorer(Protocol):
    """Knows how likely a text is."""

    def score_texts(self, documents: Sequence[Tokens]) -> list[Nats]:
        """How surprising each token of each document is.

        Every token is predicted exactly once, the first one after an end of text as in training.

        Args:
            documents: token ids, each document closed by its end of text.

        Returns:
            For each document float64[tokens]: -ln p(token | the tokens before it).
        """


@dataclass(frozen=True)
class Continuation:
    """How a model rates a continuation: ``nats`` = -ln p, and whether it is the greedy choice."""

    nats: float
    is_greedy: bool


@dataclass(frozen=True)
class GenerationConfig:
    """How to choose tokens: ``temperature`` 0 takes the likeliest, else among the ``top_k``."""

    max_new_tokens: int
    temperature: float
    top_k: int


class LanguageModel(TextScorer, Protocol):
    """A text scorer that can also go on by itself."""

    @property
    def context_length(self) -> int:
        """The most tokens that it reads at once."""

    def score_continuations(self, requests: Sequence[tuple[Tokens, Tokens]]) -> list[Continuation]:
        """Rate ``(prompt, continuation)`` pairs.

        A prompt is taken as it is, nothing stands before it, as in lm-evaluation-harness; an empty
        one stands for a text's beginning.
        """

    def generate(
        self, prompts: Sequence[Tokens], seeds: Sequence[int], generation: GenerationConfig
    ) -> list[list[int]]:
        """Continue each prompt, the beginning of a text, until its end or ``sampling.tokens``.

        A continuation depends on its prompt and seed alone, not on what else is in the batch.
        """
