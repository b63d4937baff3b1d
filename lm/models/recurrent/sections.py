"""The sizes of a recurrent model: as the recipe gives them, and with the vocabulary."""

from dataclasses import dataclass
from typing import Any, Self

from pydantic import Field, model_validator

from infra.config import ConfigModel
from lm.config.model import ModelSection
from lm.config.train import TrainConfig


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


class RecurrentRegularization(ConfigModel):
    """The regularization of AWD-LSTM (Merity et al. 2018, arXiv:1708.02182), in addition to ``optim``.

    All of it is off by default; the values to try are the paper's.
    """

    weight_drop: float = Field(
        0.0,
        ge=0,
        lt=1,
        description=(
            "fraction of the weights by which the state is multiplied that a step drops "
            "(DropConnect, Wan et al. 2013), the same for all samples and positions; try 0.5"
        ),
    )
    variational: bool = Field(
        False,
        description=(
            "whether optim.dropout drops the same elements at all positions of a sample (Gal & "
            "Ghahramani 2016)"
        ),
    )
    ar: float = Field(
        0.0,
        ge=0,
        description=(
            "activation regularization: this times the mean square of the last layer's states, after "
            "dropout, is added to the loss (Merity et al. 2017, arXiv:1708.01009); try 2"
        ),
    )
    tar: float = Field(
        0.0,
        ge=0,
        description=(
            "temporal activation regularization: this times the mean square of the change of the "
            "last layer's state from position to position is added to the loss; try 1"
        ),
    )

    @property
    def is_off(self) -> bool:
        """Whether training is as without it; ``variational`` alone needs ``optim.dropout``."""
        return not (self.weight_drop or self.variational or self.ar or self.tar)


class RecurrentSection(ModelSection):
    """The settings of the recurrent families' `model` section."""

    num_layers: int = Field(ge=1, description="number of recurrent layers")
    hidden_size: int = Field(ge=8, description="width of the embedding and of each layer's state")
    context_length: int = Field(
        256,
        ge=8,
        description=(
            "number of tokens of a training sequence, through which gradients flow; the state is "
            "zero at its start, unless it is carried"
        ),
    )
    carry_state: bool = Field(
        False,
        description=(
            "whether a sequence starts from the state at the end of the one before it, as in truncated "
            "backpropagation through time (Mikolov et al. 2010): each place of the batch reads its own part of "
            "the text in order, across the ends of documents"
        ),
    )

    def architecture_key(self) -> dict[str, Any]:
        """Return what fixes the parameters except the vocabulary; none depends on the context or its state."""
        return self.model_dump(exclude={"context_length", "carry_state"})

    def resolve_as(self, family: str, vocab_size: int) -> RecurrentConfig:
        """Return the architecture of a model of a family with this vocabulary."""
        sizes = self.model_dump(exclude={"carry_state"})
        return RecurrentConfig(vocab_size, architecture=family, **sizes)


class RecurrentEntry(TrainConfig):
    """What the entries of the recurrent families share."""

    model: RecurrentSection
    regularization: RecurrentRegularization = Field(default_factory=RecurrentRegularization)

    @model_validator(mode="after")
    def _check_carried_state(self) -> Self:
        if self.model.carry_state and (self.data.packing != "concatenate" or self.data.mixture):
            field = "mixture" if self.data.mixture else f"packing {self.data.packing}"
            raise ValueError(
                "model.carry_state needs sequences that follow each other in the text, which those of "
                f"data.{field} do not: leave one of them out"
            )
        return self

    @property
    def carries_state(self) -> bool:
        """See ``TrainConfig``."""
        return self.model.carry_state

    @property
    def uses_dropout_keys(self) -> bool:
        """See ``TrainConfig``."""
        return super().uses_dropout_keys or not self.regularization.is_off

    def weights_key(self) -> dict[str, Any]:
        """See ``TrainConfig``: without ``regularization`` and ``carry_state`` if they are off."""
        key = super().weights_key()
        if not self.model.carry_state:
            del key["model"]["carry_state"]
        if self.regularization.is_off:
            del key["regularization"]
        return key
