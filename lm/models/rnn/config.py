"""The entry of the recipe's `train` list for the simple recurrent network."""

from typing import Literal

from pydantic import Field

from lm.models.recurrent.sections import RecurrentConfig, RecurrentEntry, RecurrentSection


class RNNConfig(RecurrentSection):
    """A stack of recurrent layers between an embedding and a head."""

    def resolve(self, vocab_size: int) -> RecurrentConfig:
        """Return the architecture of a model with this vocabulary."""
        return self.resolve_as("rnn", vocab_size)


class RNNEntry(RecurrentEntry):
    """A simple recurrent network (Elman 1990) and how it is trained."""

    family: Literal["rnn"] = Field(description="the family of the model")
    model: RNNConfig
