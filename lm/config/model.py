"""The `model` section of an entry of the recipe's `train` list: the architecture and its size."""

from typing import Literal, Self

from pydantic import Field, model_validator

from infra.config import ConfigModel

FFN_SIZE_MULTIPLE = 32  # default FFN sizes are rounded to it, which suits the matrix kernels


class ModelConfig(ConfigModel):
    """The settings that fix a decoder's parameters and its function."""

    architecture: Literal["llama", "gpt2"] = Field(
        "llama",
        description=(
            "llama: RMSNorm, rotary positions, SwiGLU, grouped queries (Touvron et al. 2023); "
            "gpt2: LayerNorm, learned positions, GELU (Radford et al. 2019), for comparison"
        ),
    )
    num_layers: int = Field(ge=1, description="number of blocks")
    hidden_size: int = Field(ge=8, description="width of the residual stream")
    num_heads: int = Field(ge=1, description="number of attention heads; divides hidden_size")
    num_kv_heads: int | None = Field(
        None, ge=1, description="number of key and value heads; default: num_heads"
    )
    ffn_size: int | None = Field(
        None,
        ge=8,
        description=(
            "hidden size of the feed-forward network; default: 8/3 of hidden_size, rounded to a "
            "multiple of 32 (Touvron et al. 2023, section 2.2), or 4 times hidden_size with "
            "architecture gpt2"
        ),
    )
    context_length: int = Field(
        256, ge=8, description="number of tokens that a prediction can attend to"
    )
    tie_embeddings: bool = Field(
        True,
        description="whether the head is the embedding (Press & Wolf 2017, arXiv:1608.05859)",
    )
    bias: bool = Field(
        False,
        description="architecture gpt2: whether matrices and norms have a bias (GPT-2's have)",
    )

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        kv_heads = self.num_kv_heads or self.num_heads
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}"
            )
        if self.architecture == "gpt2" and kv_heads != self.num_heads:
            raise ValueError("num_kv_heads: architecture gpt2 needs as many as num_heads")
        if self.architecture == "llama" and self.bias:
            raise ValueError("bias: architecture llama has none")
        if self.architecture == "llama" and self.hidden_size // self.num_heads % 2:
            raise ValueError(
                f"hidden_size / num_heads is {self.hidden_size // self.num_heads}; "
                "rotary positions need an even number"
            )
        if self.num_heads % kv_heads:
            raise ValueError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {kv_heads}"
            )
        return self

    @property
    def effective_ffn_size(self) -> int:
        """Hidden size of the feed-forward network, with the default resolved."""
        if self.architecture == "gpt2":
            return self.ffn_size or 4 * self.hidden_size
        rounded = round(self.hidden_size * 8 / 3 / FFN_SIZE_MULTIPLE) * FFN_SIZE_MULTIPLE
        return self.ffn_size or max(FFN_SIZE_MULTIPLE, rounded)

    def architecture_key(self) -> dict[str, int | str | bool]:
        """Return what fixes the parameters except the vocabulary, as in ``config.json``."""
        key: dict[str, int | str | bool] = {
            "architecture": self.architecture,
            "num_layers": self.num_layers,
            "hidden_size": self.hidden_size,
            "num_heads": self.num_heads,
            "num_kv_heads": self.num_kv_heads or self.num_heads,
            "ffn_size": self.effective_ffn_size,
            "tie_embeddings": self.tie_embeddings,
            "bias": self.bias,
        }
        if self.architecture == "gpt2":
            key["context_length"] = self.context_length  # its position embeddings are learned
        return key
