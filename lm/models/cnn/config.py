"""The entry of the recipe's `train` list for gated convolutions."""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from lm.config.model import ModelSection
from lm.config.train import TrainConfig


@dataclass(frozen=True)
class ConvolutionConfig:
    """Everything that fixes a convolutional model's parameters and its function.

    Attributes:
        vocab_size: V.
        num_layers: L, number of blocks.
        hidden_size: D.
        kernel_size: K, number of positions that a convolution sees: its own and those before.
        context_length: length of a training sequence.
        tie_embeddings: whether the head is the embedding.
        architecture: the family.
        norm_eps: added under a norm's root.
    """

    vocab_size: int
    num_layers: int
    hidden_size: int
    kernel_size: int
    context_length: int
    tie_embeddings: bool
    architecture: str = "cnn"
    norm_eps: float = 1e-5

    @property
    def receptive_field(self) -> int:
        """Number of tokens that a prediction depends on: 1 + L (K - 1)."""
        return 1 + self.num_layers * (self.kernel_size - 1)


class CNNConfig(ModelSection):
    """A stack of gated convolutions between an embedding and a head."""

    context_length: int = Field(
        256,
        ge=8,
        description=(
            "number of tokens of a training sequence; a prediction depends on the last "
            "1 + num_layers * (kernel_size - 1) of them"
        ),
    )
    kernel_size: int = Field(
        4,
        ge=2,
        le=64,
        description=(
            "number of positions that a convolution sees: its own and those before (Dauphin et al. "
            "2017, table 1: 4 or 5)"
        ),
    )

    def resolve(self, vocab_size: int) -> ConvolutionConfig:
        """Return the architecture of a model with this vocabulary."""
        return ConvolutionConfig(vocab_size, **self.model_dump())

    def architecture_key(self) -> dict[str, Any]:
        """Return what fixes the parameters except the vocabulary; no parameter depends on the context."""
        return self.model_dump(exclude={"context_length"})


class CNNEntry(TrainConfig):
    """Causal gated convolutions (Dauphin et al. 2017) and how they are trained."""

    family: Literal["cnn"] = Field(description="the family of the model")
    model: CNNConfig
