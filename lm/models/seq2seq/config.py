"""The entry of the recipe's `train` list for the seq2seq family: T5's architecture, or GRUs with attention."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, Tag, model_validator

from infra.form_schema import ConditionalForm, key_discriminator
from lm.config.train import TrainConfig
from lm.models.seq2seq.gru.config import GRUConfig
from lm.models.seq2seq.t5.config import T5Config

DEFAULT_ARCHITECTURE = "t5"


# The `model` section: what it may contain follows from its architecture.
Seq2SeqModel = Annotated[
    Annotated[T5Config, Tag("t5")] | Annotated[GRUConfig, Tag("gru")],
    key_discriminator("architecture", DEFAULT_ARCHITECTURE),
    ConditionalForm("architecture", default=DEFAULT_ARCHITECTURE),
]


class Seq2SeqEntry(TrainConfig):
    """An encoder-decoder (Sutskever et al. 2014, arXiv:1409.3215) and how it is trained."""

    predicts_next_token: ClassVar[bool] = False

    family: Literal["seq2seq"] = Field(description="the family of the model")
    model: Seq2SeqModel

    @property
    def package(self) -> str:
        """See ``TrainConfig``: the architecture's."""
        return self.model.resolve(0).architecture

    @model_validator(mode="after")
    def _check_packing(self) -> Self:
        if self.data.packing != "concatenate":
            raise ValueError(
                f"data.packing {self.data.packing!r} is not for seq2seq, whose rows are cut anew: "
                "use 'concatenate'"
            )
        return self
