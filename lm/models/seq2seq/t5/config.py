"""The `model` section of the recipe's `train` list for T5's architecture."""

from typing import Literal

from pydantic import Field

from lm.models.seq2seq.sections import Seq2SeqConfig, Seq2SeqSection
from lm.models.transformer_section import TransformerSection


class T5Config(Seq2SeqSection, TransformerSection):
    """RMSNorm, relative position biases, GeGLU (Raffel et al. 2020, T5 1.1)."""

    architecture: Literal["t5"] = Field("t5", description="the architecture of the model")
    ffn_size: int | None = Field(
        None,
        ge=8,
        description=(
            "hidden size of the feed-forward network; default: 8/3 of hidden_size, rounded to a "
            "multiple of 32"
        ),
    )
    tie_embeddings: Literal[True] = Field(
        True, description="the head is the embedding: transformers have no other T5"
    )

    def resolve(self, vocab_size: int) -> Seq2SeqConfig:
        """Return the architecture of a model with this vocabulary, defaults resolved."""
        return self.resolve_with(vocab_size, ffn_size=self.gated_ffn_size)
