"""The entry of the recipe's `train` list for the encoder family: ModernBERT's or BERT's architecture."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, Tag

from infra.form_schema import ConditionalForm, key_discriminator
from lm.config.train import TrainConfig
from lm.models.encoder.bert.config import BertConfig
from lm.models.encoder.modernbert.config import ModernBertConfig

DEFAULT_ARCHITECTURE = "modernbert"


# The `model` section: what it may contain follows from its architecture.
EncoderModel = Annotated[
    Annotated[ModernBertConfig, Tag("modernbert")] | Annotated[BertConfig, Tag("bert")],
    key_discriminator("architecture", DEFAULT_ARCHITECTURE),
    ConditionalForm("architecture", default=DEFAULT_ARCHITECTURE),
]


class EncoderEntry(TrainConfig):
    """A masked language model (Devlin et al. 2019, arXiv:1810.04805) and how it is trained."""

    predicts_next_token: ClassVar[bool] = False

    family: Literal["encoder"] = Field(description="the family of the model")
    model: EncoderModel

    @property
    def package(self) -> str:
        """See ``TrainConfig``: the architecture's."""
        return self.model.architecture
