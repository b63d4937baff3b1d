"""A released model that is explained."""

from dataclasses import dataclass
from typing import Any

import torch

from lm.interpret.labels import spell_tokens


@dataclass(frozen=True)
class ReleasedModel:
    """A model and its tokenizer, on the CPU.

    Attributes:
        model: of transformers, or of a family's own class.
        tokenizer: adds the tokens around a text as the model's task needs them.
        hf_class: the name of the model's class.
    """

    model: Any
    tokenizer: Any
    hf_class: str

    @property
    def labels(self) -> list[str]:
        """Names of the classes of a classifier; empty for other models."""
        if not self.hf_class.endswith("ForSequenceClassification"):
            return []
        return [
            self.model.config.id2label[number] for number in range(self.model.config.num_labels)
        ]

    @property
    def continues_text(self) -> bool:
        """Whether the model predicts the next token."""
        return self.hf_class.endswith(("ForCausalLM", "LMHeadModel"))

    @property
    def writes_target(self) -> bool:
        """Whether the model is an encoder-decoder."""
        return self.hf_class.endswith("ForConditionalGeneration")

    @property
    def max_tokens(self) -> int | None:
        """How many tokens the model reads; ``None`` if neither tokenizer nor model has a limit."""
        from transformers.tokenization_utils_base import LARGE_INTEGER

        limits = [self.tokenizer.model_max_length]  # without a setting 1e30
        limits.append(getattr(self.model.config, "max_position_embeddings", None) or LARGE_INTEGER)
        return min((int(limit) for limit in limits if limit < LARGE_INTEGER), default=None)

    def encode(self, text: str, max_tokens: int | None = None) -> torch.Tensor:
        """Return the ids of a text as the model reads it, int64[T]; the end of a longer text is cut.

        A document begins after an end of text for a model that continues it. An encoder-decoder that was not
        fine-tuned is asked for what follows: a sentinel stands for it.
        """
        limits = [limit for limit in (self.max_tokens, max_tokens) if limit is not None]
        longest = min(limits, default=None)
        cut = {} if longest is None else {"truncation": True, "max_length": longest}
        ids = self.tokenizer(text, **cut)["input_ids"]
        start, end = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        if self.continues_text and ids[:1] != [start]:
            ids = [start, *ids][:longest]
        if self.writes_target and ids and ids[-1:] != [end]:
            room = None if longest is None else longest - 3
            ids = [end, *ids[:room], self.model.config.sentinel_token_id, end]
        return torch.tensor(ids, dtype=torch.int64)

    def spell(self, ids: torch.Tensor) -> list[str]:
        """Return the text of each token; parts of characters are shown as replacement characters."""
        return spell_tokens(self.tokenizer, ids)
