"""The sizes of a recurrent model: as the recipe gives them, and with the vocabulary."""

from dataclasses import dataclass
from typing import Any

from pydantic import Field

from lm.config.model import ModelSection


@dataclass(frozen=True)
class RecurrentConfig:
    """Everything that fixes a recurrent model's parameters and its function.

    Attributes:
        vocab_size: V.
        num_layers: number of recurrent layers.
        hidden_size: D, of the embedding and of each layer's state.
        context_length: length of a training sequence.
        tie_embeddings: whether the head is the embedding.
        architecture: the family.
    """

    vocab_size: int
    num_layers: int
    hidden_size: int
    context_length: int
    tie_embeddings: bool
    architecture: str


class RecurrentSection(ModelSection):
    """The settings of the recurrent families' `model` section."""

    num_layers: int = Field(ge=1, description="number of recurrent layers")
    hidden_size: int = Field(ge=8, description="width of the embedding and of each layer's state")
    context_length: int = Field(
        256,
        ge=8,
        description=(
            "number of tokens of a training sequence, through which gradients flow; the state is "
            "zero at its start"
        ),
    )

    def architecture_key(self) -> dict[str, Any]:
        """Return what fixes the parameters except the vocabulary; no parameter depends on the context."""
        return self.model_dump(exclude={"context_length"})

    def resolve_as(self, family: str, vocab_size: int) -> RecurrentConfig:
        """Return the architecture of a model of a family with this vocabulary."""
        return RecurrentConfig(vocab_size, architecture=family, **self.model_dump())
