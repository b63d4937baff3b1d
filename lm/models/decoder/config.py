"""The entry of the recipe's `train` list for the decoder family: Llama's or GPT-2's architecture."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from infra.form_schema import ConditionalForm
from lm.config.train import TrainConfig
from lm.models.decoder.gpt2.config import GPT2Config
from lm.models.decoder.llama.config import LlamaConfig

DEFAULT_ARCHITECTURE = "llama"


def _architecture(section: Any) -> str:
    if isinstance(section, dict):
        return str(section.get("architecture", DEFAULT_ARCHITECTURE))
    return str(getattr(section, "architecture", DEFAULT_ARCHITECTURE))


# The `model` section: what it may contain follows from its architecture.
DecoderModel = Annotated[
    Annotated[LlamaConfig, Tag("llama")] | Annotated[GPT2Config, Tag("gpt2")],
    Discriminator(_architecture),
    ConditionalForm("architecture", default=DEFAULT_ARCHITECTURE),
]


class DecoderEntry(TrainConfig):
    """A Transformer decoder (Vaswani et al. 2017) and how it is trained.

    Defaults are for the sizes that a laptop trains, from one to some ten million parameters; each
    field names its source. "Measured" refers to the table in docs/train.md.
    """

    family: Literal["decoder"] = Field("decoder", description="the family of the model")
    model: DecoderModel

    @property
    def package(self) -> str:
        """See ``TrainConfig``: the architecture's."""
        return self.model.architecture
