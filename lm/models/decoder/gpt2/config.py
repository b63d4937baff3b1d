"""The `model` section of the recipe's `train` list for GPT-2's architecture."""

from dataclasses import asdict
from typing import Any, Literal

from pydantic import Field

from lm.models.decoder.sections import DecoderConfig, DecoderSection


class GPT2Config(DecoderSection):
    """LayerNorm, added positions and GELU (Radford et al. 2019), for comparison."""

    architecture: Literal["gpt2"] = Field(description="the architecture of the model")
    ffn_size: int | None = Field(
        None,
        ge=8,
        description="hidden size of the feed-forward network; default: 4 times hidden_size",
    )
    bias: bool = Field(
        False, description="whether matrices and norms have a bias, as GPT-2's published weights"
    )

    positions: Literal["learned", "sinusoidal"] = Field(
        "learned",
        description=(
            "positions that are added to the embedding: learned, or the fixed sines of Vaswani et al. "
            "2017, section 3.5"
        ),
    )

    def resolve(self, vocab_size: int) -> DecoderConfig:
        """Return the architecture of a model with this vocabulary, defaults resolved."""
        return self._resolve(vocab_size, num_kv_heads=self.num_heads, ffn_size=4 * self.hidden_size)

    def architecture_key(self) -> dict[str, Any]:
        """Return what fixes the parameters except the vocabulary, as in ``config.json``."""
        # Sines have no parameters, so the context may change between two stages.
        left_out = ("vocab_size", *(("context_length",) if self.positions == "sinusoidal" else ()))
        return {k: v for k, v in asdict(self.resolve(0)).items() if k not in left_out}
