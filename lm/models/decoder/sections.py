"""The sizes of a decoder: as the recipe gives them, and with all defaults resolved."""

from dataclasses import dataclass
from typing import Any

from lm.models.transformer_section import TransformerSection


@dataclass(frozen=True)
class DecoderConfig:
    """Everything that fixes a decoder's parameters and its function.

    Attributes:
        vocab_size: V.
        num_layers: number of blocks.
        hidden_size: D.
        num_heads: H.
        num_kv_heads: K; a divisor of H.
        ffn_size: F.
        context_length: maximum number of positions.
        tie_embeddings: whether the head is the embedding.
        architecture: the package of ``lm.models.decoder`` that holds the model's class.
        bias: whether matrices and norms have a bias (GPT-2).
        rope_theta: base of the rotary angles (Llama).
        norm_eps: added under a norm's root.
        positions: learned or sinusoidal (GPT-2); Llama's are rotary.
    """

    vocab_size: int
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    ffn_size: int
    context_length: int
    tie_embeddings: bool = True
    architecture: str = "llama"
    bias: bool = False
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    positions: str = "learned"

    @property
    def head_dim(self) -> int:
        """E: the size of one attention head."""
        return self.hidden_size // self.num_heads


class DecoderSection(TransformerSection):
    """The settings that all decoders have: the base of each architecture's `model` section."""

    def _resolve(self, vocab_size: int, **defaults: Any) -> DecoderConfig:
        """Return the architecture of a model with this vocabulary; sections name fields alike."""
        given = {name: value for name, value in self.model_dump().items() if value is not None}
        return DecoderConfig(vocab_size=vocab_size, **{**defaults, **given})
