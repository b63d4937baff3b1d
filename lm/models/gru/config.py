"""The entry of the recipe's `train` list for the gated recurrent unit."""

from typing import Literal

from pydantic import Field

from lm.models.recurrent.sections import RecurrentConfig, RecurrentEntry, RecurrentSection


class GRUConfig(RecurrentSection):
    """A stack of recurrent layers between an embedding and a head."""

    def resolve(self, vocab_size: int) -> RecurrentConfig:
        """Return the architecture of a model with this vocabulary."""
        return self.resolve_as("gru", vocab_size)


class GRUEntry(RecurrentEntry):
    """Gated recurrent units (Cho et al. 2014) and how they are trained."""

    family: Literal["gru"] = Field(description="the family of the model")
    model: GRUConfig
