"""Score and generate with an n-gram model."""

from collections.abc import Sequence

import numpy as np

from infra.formats.megatron import Tokens
from lm.models.ngram.model import NgramModel
from lm.scoring.language_model import Continuation, GenerationConfig, Nats, sample_token


class NgramLanguageModel:
    """A ``LanguageModel`` whose texts have no maximum length."""

    def __init__(self, model: NgramModel) -> None:
        """Wrap a model."""
        self._model = model

    @property
    def context_length(self) -> int:
        """See ``LanguageModel``: the order."""
        return self._model.order

    def score_texts(self, documents: Sequence[Tokens]) -> list[Nats]:
        """See ``TextScorer``."""
        return [self._model.score(ids) for ids in documents]

    def score_continuations(self, requests: Sequence[tuple[Tokens, Tokens]]) -> list[Continuation]:
        """See ``LanguageModel``."""
        return [self._score_continuation(prompt, rest) for prompt, rest in requests]

    def _score_continuation(self, prompt: Tokens, continuation: Tokens) -> Continuation:
        ids = np.concatenate([prompt, continuation]).astype(np.int64)
        nats = self._model.score(ids)[len(prompt) :]
        num_greedy = sum(
            int(self._model.distribution(ids[:end]).argmax()) == ids[end]
            for end in range(len(prompt), len(ids))
        )
        return Continuation(float(nats.sum()), len(nats), num_greedy)

    def generate(
        self, prompts: Sequence[Tokens], seeds: Sequence[int], generation: GenerationConfig
    ) -> list[list[int]]:
        """See ``LanguageModel``."""
        return [
            self._generate_one(prompt, np.random.default_rng(seed), generation)
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]

    def _generate_one(
        self, prompt: Tokens, rng: np.random.Generator, generation: GenerationConfig
    ) -> list[int]:
        ids: list[int] = prompt.tolist()
        for _ in range(generation.max_new_tokens):
            history = ids[-self._model.order :] if len(ids) > self._model.order else ids
            logits = np.log(self._model.distribution(history))
            ids.append(sample_token(logits, rng, generation))
            if ids[-1] == self._model.eos:
                break
        return ids[len(prompt) :]
