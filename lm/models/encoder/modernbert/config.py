"""The `model` section of the recipe's `train` list for ModernBERT's architecture."""

from typing import Literal, Self

from pydantic import Field, model_validator

from lm.models.encoder.sections import EncoderConfig, EncoderSection

FFN_SIZE_MULTIPLE = 32  # default FFN sizes are rounded to it, which suits the matrix kernels


class ModernBertConfig(EncoderSection):
    """LayerNorm before each sublayer, rotary positions, GeGLU, no biases (Warner et al. 2024).

    All layers attend to the whole sequence: at this length a window would save nothing.
    """

    architecture: Literal["modernbert"] = Field(
        "modernbert", description="the architecture of the model"
    )

    @model_validator(mode="after")
    def _check_rotary(self) -> Self:
        if self.hidden_size // self.num_heads % 2:
            raise ValueError(
                f"hidden_size / num_heads is {self.hidden_size // self.num_heads}; "
                "rotary positions need an even number"
            )
        return self

    def resolve(self, vocab_size: int) -> EncoderConfig:
        """Return the architecture of a model with this vocabulary, defaults resolved."""
        multiples = max(1, round(self.hidden_size * 8 / 3 / FFN_SIZE_MULTIPLE))
        size = multiples * FFN_SIZE_MULTIPLE
        return self.resolve_with(vocab_size, ffn_size=size, norm_eps=1e-5, positions="rotary")
