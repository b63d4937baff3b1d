"""The `model` section of the recipe's `train` list for T5's architecture."""

from typing import Literal, Self

from pydantic import Field, model_validator

from lm.models.seq2seq.sections import Seq2SeqConfig, Seq2SeqSection

FFN_SIZE_MULTIPLE = 32  # default FFN sizes are rounded to it, which suits the matrix kernels


class T5Config(Seq2SeqSection):
    """RMSNorm, relative position biases, GeGLU (Raffel et al. 2020, T5 1.1)."""

    architecture: Literal["t5"] = Field("t5", description="the architecture of the model")
    num_heads: int = Field(ge=1, description="number of attention heads; divides hidden_size")
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

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}"
            )
        return self

    def resolve(self, vocab_size: int) -> Seq2SeqConfig:
        """Return the architecture of a model with this vocabulary, defaults resolved."""
        multiples = max(1, round(self.hidden_size * 8 / 3 / FFN_SIZE_MULTIPLE))
        return self.resolve_with(vocab_size, ffn_size=multiples * FFN_SIZE_MULTIPLE)
