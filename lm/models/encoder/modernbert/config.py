"""The `model` section of the recipe's `train` list for ModernBERT's architecture."""

from typing import Literal, Self

from pydantic import Field, model_validator

from lm.models.encoder.sections import EncoderConfig, EncoderSection


class ModernBertConfig(EncoderSection):
    """LayerNorm before each sublayer, rotary positions, GeGLU, no biases (Warner et al. 2024).

    All layers attend to the whole sequence: at this length a window would save nothing.
    """

    architecture: Literal["modernbert"] = Field(
        "modernbert", description="the architecture of the model"
    )

    @model_validator(mode="after")
    def _check_rotary(self) -> Self:
        self.check_rotary()
        return self

    def resolve(self, vocab_size: int) -> EncoderConfig:
        """Return the architecture of a model with this vocabulary, defaults resolved."""
        size = self.gated_ffn_size
        return self.resolve_with(vocab_size, ffn_size=size, norm_eps=1e-5, positions="rotary")
