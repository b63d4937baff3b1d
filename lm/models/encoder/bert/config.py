"""The `model` section of the recipe's `train` list for BERT's architecture."""

from typing import Literal

from pydantic import Field

from lm.models.encoder.sections import EncoderConfig, EncoderSection


class BertConfig(EncoderSection):
    """LayerNorm after each sublayer, GELU, biases (Devlin et al. 2019)."""

    architecture: Literal["bert"] = Field(description="the architecture of the model")
    positions: Literal["learned", "sinusoidal"] = Field(
        "learned",
        description="positions that are added to the embedding: learned, or of fixed sines",
    )

    def resolve(self, vocab_size: int) -> EncoderConfig:
        """Return the architecture of a model with this vocabulary, defaults resolved."""
        return self.resolve_with(vocab_size, ffn_size=4 * self.hidden_size, norm_eps=1e-12)
