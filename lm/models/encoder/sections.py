"""The sizes of an encoder: as the recipe gives them, and with all defaults resolved."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import Field

from lm.models.transformer_section import TransformerSection


@dataclass(frozen=True)
class EncoderConfig:
    """Everything that fixes an encoder's parameters, its function and its objective.

    Attributes:
        vocab_size: V, the ids of the text and the mask.
        num_layers: L, number of blocks.
        hidden_size: D.
        num_heads: H.
        ffn_size: F.
        context_length: maximum number of positions.
        tie_embeddings: whether the head is the embedding.
        architecture: the package of ``lm.models.encoder`` that holds the model's class.
        mask_fraction: fraction of the tokens that is predicted.
        norm_eps: added under a norm's root.
        positions: learned or sinusoidal (BERT), rotary (ModernBERT).
        rope_theta: base of the rotary angles (ModernBERT).
    """

    vocab_size: int
    num_layers: int
    hidden_size: int
    num_heads: int
    ffn_size: int
    context_length: int
    tie_embeddings: bool
    architecture: str
    mask_fraction: float
    norm_eps: float
    positions: Literal["learned", "sinusoidal", "rotary"]
    rope_theta: float = 10_000.0

    @property
    def head_dim(self) -> int:
        """E: the size of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def mask_id(self) -> int:
        """The id of the mask: the embedding's last row, after those of the tokenizer's ids."""
        return self.vocab_size - 1


class EncoderSection(TransformerSection):
    """The settings that all encoders have: the base of each architecture's `model` section."""

    context_length: int = Field(
        256, ge=8, description="number of tokens of a sequence, which all see each other"
    )
    ffn_size: int | None = Field(
        None,
        ge=8,
        description="hidden size of the feed-forward network; default: the architecture's",
    )
    mask_fraction: float = Field(
        0.15,
        gt=0,
        lt=1,
        description=(
            "fraction of the tokens that is predicted (Devlin et al. 2019: 0.15; Wettig et al. 2023, "
            "arXiv:2202.08005: up to 0.4)"
        ),
    )

    def resolve_with(self, vocab_size: int, **defaults: Any) -> EncoderConfig:
        """Return the architecture of a model of this vocabulary and the mask."""
        given = {name: value for name, value in self.model_dump().items() if value is not None}
        return EncoderConfig(vocab_size=vocab_size + 1, **{**defaults, **given})

    def architecture_key(self) -> dict[str, Any]:
        """Return what fixes the parameters except the vocabulary, as in ``config.json``."""
        resolved = asdict(self.resolve(0))
        learned = ("context_length",) if resolved["positions"] != "learned" else ()
        left_out = ("vocab_size", "mask_fraction", *learned)
        return {name: value for name, value in resolved.items() if name not in left_out}
