"""The entry of the recipe's `train` list for the seq2seq family: T5's architecture."""

from typing import Literal, Self

from pydantic import Field, model_validator

from lm.config.train import TrainConfig
from lm.models.seq2seq.t5.config import T5Config


class Seq2SeqEntry(TrainConfig):
    """An encoder-decoder (Sutskever et al. 2014, arXiv:1409.3215) and how it is trained."""

    family: Literal["seq2seq"] = Field(description="the family of the model")
    model: T5Config

    @property
    def package(self) -> str:
        """See ``TrainConfig``: the architecture's."""
        return self.model.architecture

    @model_validator(mode="after")
    def _check_packing(self) -> Self:
        if self.data.packing != "concatenate":
            raise ValueError(
                f"data.packing {self.data.packing!r} is not for seq2seq, whose rows are cut anew: "
                "use 'concatenate'"
            )
        return self
