"""The `model` section of the recipe's `train` list for Llama's architecture."""

from dataclasses import asdict
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from lm.models.decoder.sections import DecoderConfig, DecoderSection


class LlamaConfig(DecoderSection):
    """RMSNorm, rotary positions, SwiGLU and grouped queries (Touvron et al. 2023)."""

    architecture: Literal["llama"] = Field("llama", description="the architecture of the model")
    num_kv_heads: int | None = Field(
        None, ge=1, description="number of key and value heads; default: num_heads"
    )
    ffn_size: int | None = Field(
        None,
        ge=8,
        description=(
            "hidden size of the feed-forward network; default: 8/3 of hidden_size, rounded to a "
            "multiple of 32 (Touvron et al. 2023, section 2.2)"
        ),
    )

    @model_validator(mode="after")
    def _check_rotary_and_groups(self) -> Self:
        self.check_rotary()
        if self.num_heads % (self.num_kv_heads or self.num_heads):
            raise ValueError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}"
            )
        return self

    def resolve(self, vocab_size: int) -> DecoderConfig:
        """Return the architecture of a model with this vocabulary, defaults resolved."""
        return self._resolve(vocab_size, num_kv_heads=self.num_heads, ffn_size=self.gated_ffn_size)

    def architecture_key(self) -> dict[str, Any]:
        """Return what fixes the parameters except the vocabulary, as in ``config.json``."""
        # Rotary positions have no parameters, so the context may change between two stages.
        left_out = ("vocab_size", "context_length", "positions")
        return {k: v for k, v in asdict(self.resolve(0)).items() if k not in left_out}
