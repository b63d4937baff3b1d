"""What the `model` sections of all Transformers have: heads, and the width of a gated feed-forward network."""

from typing import Self

from pydantic import Field, model_validator

from lm.config.model import ModelSection

FFN_SIZE_MULTIPLE = 32  # default FFN sizes are rounded to it, which suits the matrix kernels


class TransformerSection(ModelSection):
    """A width that is divided among attention heads."""

    num_heads: int = Field(ge=1, description="number of attention heads; divides hidden_size")

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}"
            )
        return self

    def check_rotary(self) -> None:
        """Raise ``ValueError`` unless positions can rotate pairs of a head's values."""
        if self.hidden_size // self.num_heads % 2:
            raise ValueError(
                f"hidden_size / num_heads is {self.hidden_size // self.num_heads}; "
                "rotary positions need an even number"
            )

    @property
    def gated_ffn_size(self) -> int:
        """8/3 of the width: three matrices have as many weights as two of four times the width."""
        return max(1, round(self.hidden_size * 8 / 3 / FFN_SIZE_MULTIPLE)) * FFN_SIZE_MULTIPLE
