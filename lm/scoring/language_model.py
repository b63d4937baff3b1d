"""The interface between evaluation and models: a class with these methods can be measured.

Three methods, as in lm-evaluation-harness: score a text, score a continuation, generate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from infra.formats.megatron import Positions, Tokens

Nats = npt.NDArray[np.float64]


class TextScorer(Protocol):
    """Assigns a probability to texts."""

    def score_texts(self, documents: Sequence[Tokens]) -> list[Nats]:
        """Return the negative log-likelihood of each token of each document.

        Every token is predicted exactly once, the first one after an end of text as in training.

        Args:
            documents: token ids, each document followed by its end of text.

        Returns:
            For each document float64[tokens]: -ln p(token | the tokens before it).
        """


@dataclass(frozen=True)
class Continuation:
    """The score of a continuation.

    Attributes:
        nats: -ln p.
        num_tokens: its length.
        num_greedy: how many of its tokens are the most probable one after those before them.
    """

    nats: float
    num_tokens: int
    num_greedy: int

    @property
    def is_greedy(self) -> bool:
        """Whether greedy decoding gives it."""
        return self.num_greedy == self.num_tokens


@dataclass(frozen=True)
class GenerationConfig:
    """How to choose tokens: greedily if ``temperature`` is 0, else sampled among the ``top_k``."""

    max_new_tokens: int
    temperature: float
    top_k: int


class LanguageModel(TextScorer, Protocol):
    """A text scorer that can also generate."""

    @property
    def context_length(self) -> int:
        """Maximum number of tokens that it reads at once."""

    def score_continuations(self, requests: Sequence[tuple[Tokens, Tokens]]) -> list[Continuation]:
        """Score ``(prompt, continuation)`` pairs.

        Nothing is prepended to a prompt, as in lm-evaluation-harness; an empty prompt stands for
        the beginning of a text.
        """

    def generate(
        self, prompts: Sequence[Tokens], seeds: Sequence[int], generation: GenerationConfig
    ) -> list[list[int]]:
        """Continue each prompt, the beginning of a text, to its end or for ``max_new_tokens``.

        A continuation depends on its prompt and seed alone, not on what else is in the batch.
        """


class MaskedScorer(Protocol):
    """Predicts a token from those on both sides of it, and gives texts no probability."""

    @property
    def eos(self) -> int:
        """The end of text, which is never predicted."""

    def score_tokens(
        self, documents: Sequence[Tokens], positions: Sequence[Positions]
    ) -> list[Nats]:
        """Return -ln p(token | all other tokens) of these positions of each document, float64[n] each."""


def sample_token(logits: Nats, rng: np.random.Generator, generation: GenerationConfig) -> int:
    """Choose the most likely token, or sample one of the ``top_k`` in proportion to exp(logit / t)."""
    # A stable sort: ties are broken by the token id.
    best = np.argsort(-logits, kind="stable")[: generation.top_k]
    if generation.temperature == 0:
        return int(best[0])
    # The argmax of logit / t + Gumbel noise is such a sample (Gumbel 1954).
    return int(best[np.argmax(logits[best] / generation.temperature + rng.gumbel(size=len(best)))])
