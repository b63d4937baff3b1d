"""The entry of the recipe's `train` list for long short-term memory."""

from typing import Literal

from pydantic import Field

from lm.models.recurrent.sections import RecurrentConfig, RecurrentEntry, RecurrentSection


class LSTMConfig(RecurrentSection):
    """A stack of recurrent layers between an embedding and a head."""

    def resolve(self, vocab_size: int) -> RecurrentConfig:
        """Return the architecture of a model with this vocabulary."""
        return self.resolve_as("lstm", vocab_size)


class LSTMEntry(RecurrentEntry):
    """Long short-term memory (Hochreiter & Schmidhuber 1997) and how it is trained."""

    family: Literal["lstm"] = Field(description="the family of the model")
    model: LSTMConfig
