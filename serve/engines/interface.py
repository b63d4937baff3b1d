"""What the endpoint asks of an engine, whatever runs the model: token ids in, token ids out.

Text is not an engine's business. The endpoint encodes prompts, decodes tokens as they come, finds stop
sequences in the text and ends a generation by closing it, so that every engine stops in the same place.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sampling:
    """How to choose the next token, with the names and defaults of OpenAI's API and of vLLM's.

    Attributes:
        temperature: 0 chooses the most likely token.
        top_p: sample among the fewest tokens whose probabilities add up to this.
        top_k: sample among so many; 0: among all.
        presence_penalty: subtracted from the logit of each token that was generated before.
        frequency_penalty: the same, times how often it was.
        repetition_penalty: positive logits of tokens in prompt or output are divided by it, negative
            ones multiplied (Keskar et al. 2019, arXiv:1909.05858).
        logit_bias: added to the logits of tokens.
        seed: of the sampling. The same request with the same seed gives the same tokens, whatever else
            is generated at the same time.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Generation:
    """One sequence to generate.

    Attributes:
        prompt: token ids, at least one. Of an encoder-decoder: what its encoder reads.
        max_new_tokens: at least 1; the caller has checked that the context holds them.
        sampling: how to choose.
        logprobs: whether log-probabilities are asked for; they cost a sum over the vocabulary per step,
            so without it an engine may leave them out.
        num_top: how many alternatives of each token to report, beside the token's own log-probability;
            more than 0 asks for log-probabilities.
        stop_ids: tokens that end it; the one that does is reported as the last.
    """

    prompt: tuple[int, ...]
    max_new_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    logprobs: bool = False
    num_top: int = 0
    stop_ids: frozenset[int] = frozenset()


@dataclass(frozen=True)
class TokenScore:
    """A token and its log-probability, before temperature, penalties and bias.

    Attributes:
        logprob: ``None`` for the first token of a text, before which there is nothing, and if it was not
            asked for.
        top: the most likely tokens at its place with their log-probabilities, best first.
    """

    id: int
    logprob: float | None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Load:
    """What an engine is doing.

    Attributes:
        running: sequences that it generates.
        waiting: sequences that have no slot yet.
        slots: how many it generates at once.
        cached_tokens: prompt tokens that were taken from the prefix cache, since the start.
        prompt_tokens: prompt tokens that were asked for, since the start.
        generated_tokens: since the start.
    """

    running: int
    waiting: int
    slots: int
    cached_tokens: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0


class EngineError(Exception):
    """The engine cannot go on: its process died or refused the model. The request ends with 503."""


class Engine(Protocol):
    """Generates with a causal model or an encoder-decoder."""

    @property
    def name(self) -> str:
        """How it is called in metrics: ``torch`` or ``llama.cpp``."""

    @property
    def context_length(self) -> int:
        """Most tokens of prompt and output together; of an encoder-decoder, of each."""

    @property
    def is_ready(self) -> bool:
        """Whether it can answer: its process lives. One that dies is started again."""

    def generate(self, generation: Generation) -> AsyncGenerator[TokenScore, None]:
        """Yield tokens as they are generated, after a stop token none.

        Closing the generator (``aclose``, or cancelling the task that reads it) ends the generation, and its
        slot is free within one step. As many sequences as there are slots advance together; more wait.

        Raises:
            EngineError: if the engine dies.
        """

    async def score(self, ids: Sequence[int], num_top: int = 0) -> list[TokenScore]:
        """Return the log-probability of each token given those before it, as one forward pass has it.

        The first one has none, unless the model was given what precedes it.
        """

    def load(self) -> Load:
        """Return what it is doing, for metrics and back-pressure."""

    async def close(self) -> None:
        """End all generations with ``EngineError``, and everything that was started."""


class TextModel(Protocol):
    """Says something of whole texts, which are ids with all tokens that belong around them.

    A model has only some of the methods: see ``serve.models.ServedModel``. All raise ``EngineError`` if the
    process of the model dies.
    """

    @property
    def name(self) -> str:
        """See ``Engine``."""

    @property
    def is_ready(self) -> bool:
        """See ``Engine``."""

    def load(self) -> Load:
        """See ``Engine``; what is said of texts takes no slot."""

    async def embed(self, texts: Sequence[Sequence[int]]) -> Vector:
        """Return a vector of length 1 per text, float32[n, D]: the mean of its last hidden states.

        Of word vectors it is the mean of the vectors of its words, and zero if none has one.
        """

    async def fill_mask(self, ids: Sequence[int], num_top: int) -> list[list[tuple[int, float]]]:
        """Return the most likely tokens in the place of each mask, with their probabilities, best first."""

    async def classify(self, texts: Sequence[Sequence[int]]) -> Vector:
        """Return the probability of each label for each text, float32[n, L]; with several per text each its own."""

    async def tag(self, ids: Sequence[int]) -> Vector:
        """Return the probability of each label for each token, float32[T, L]."""

    async def close(self) -> None:
        """End what was started; requests that are not answered raise ``EngineError``."""
