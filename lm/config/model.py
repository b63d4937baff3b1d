"""The `model` section of an entry: what training reads of it, whatever the family."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from pydantic import Field

from infra.config import ConfigModel

if TYPE_CHECKING:
    from lm.models.neural_lm import ArchitectureConfig


class ModelSection(ConfigModel):
    """The settings that all families of neural language models have."""

    num_layers: int = Field(ge=1, description="number of blocks")
    hidden_size: int = Field(ge=8, description="width of the residual stream")
    context_length: int = Field(
        256, ge=8, description="number of tokens that a prediction can attend to"
    )
    tie_embeddings: bool = Field(
        True, description="whether the head is the embedding (Press & Wolf 2017, arXiv:1608.05859)"
    )

    @abstractmethod
    def resolve(self, vocab_size: int) -> "ArchitectureConfig":
        """Return the architecture of a model with this vocabulary, defaults resolved."""

    @abstractmethod
    def architecture_key(self) -> dict[str, Any]:
        """Return what fixes the parameters except the vocabulary, as in ``config.json``."""
