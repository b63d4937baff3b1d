"""The model's shape: the first part of an entry of the recipe's `train` list."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from infra.config import ConfigModel

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]

FFN_SIZE_MULTIPLE = 32  # hidden widths are rounded to it, for the matrix kernels' sake


class ModelConfig(ConfigModel):
    """A name, and what fixes a decoder's parameters and its function."""

    name: Name = Field(description="names the model in folders, reports and exports")

    architecture: Literal["llama", "gpt2"] = Field(
        "llama",
        description=(
            "llama: RMSNorm, rotary positions, SwiGLU, grouped queries (Touvron et al. 2023); "
            "gpt2: LayerNorm, learned positions, GELU (Radford et al. 2019), for comparison"
        ),
    )
    num_layers: int = Field(ge=1, description="number of blocks")
    hidden_size: int = Field(ge=8, description="width of the residual stream")
    num_heads: int = Field(ge=1, description="number of attention heads; divides the width")
    num_kv_heads: int | None = Field(
        None, ge=1, description="number of key and value heads; default: as many as heads"
    )
    ffn_size: int | None = Field(
        None,
        ge=8,
        description=(
            "hidden width of the feed-forward; default: 8/3 of the width, rounded to a multiple "
            "of 32 (Touvron et al. 2023, section 2.2), or 4 widths in layout gpt2"
        ),
    )
    context_length: int = Field(
        256, ge=8, description="tokens that a prediction looks back on, at most"
    )
    tie_embeddings: bool = Field(
        True,
        description="whether the head is the embedding (Press & Wolf 2017, arXiv:1608.05859)",
    )
    bias: bool = Field(
        False, description="layout gpt2: whether matrices and norms have a bias (GPT-2's have)"
    )

    @property
    def effective_ffn_size(self) -> int:
        """Hidden width of the feed-forward."""
        if self.architecture == "gpt2":
            return self.ffn_size or 4 * self.hidden_size
        rounded = round(self.hidden_size * 8 / 3 / FFN_SIZE_MULTIPLE) * FFN_SIZE_MULTIPLE
        return self.ffn_size or max(FFN_SIZE_MULTIPLE, rounded)
