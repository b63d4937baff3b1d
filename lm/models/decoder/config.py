"""The entry of the recipe's `train` list for the decoder family: Llama's or GPT-2's architecture."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, Tag, model_validator

from infra.form_schema import ConditionalForm, key_discriminator
from lm.config.train import TrainConfig
from lm.models.decoder.depth import MAX_DEPTH
from lm.models.decoder.gpt2.config import GPT2Config
from lm.models.decoder.llama.config import LlamaConfig

DEFAULT_ARCHITECTURE = "llama"


# The `model` section: what it may contain follows from its architecture.
DecoderModel = Annotated[
    Annotated[LlamaConfig, Tag("llama")] | Annotated[GPT2Config, Tag("gpt2")],
    key_discriminator("architecture", DEFAULT_ARCHITECTURE),
    ConditionalForm("architecture", default=DEFAULT_ARCHITECTURE),
]


class DecoderEntry(TrainConfig):
    """A Transformer decoder (Vaswani et al. 2017) and how it is trained.

    Defaults are for the sizes that a laptop trains, from one to some ten million parameters; each
    field names its source. "Measured" refers to the table in docs/train.md.
    """

    family: Literal["decoder"] = Field("decoder", description="the family of the model")
    depth: int | None = Field(
        None,
        ge=1,
        le=MAX_DEPTH,
        description=(
            "number of layers from which num_layers, hidden_size, num_heads, train_tokens, "
            "global_batch_size and lr follow by nanochat's rules (docs/models.md, depth); those "
            "that are given win"
        ),
    )
    model: DecoderModel

    @model_validator(mode="after")
    def _check_depth(self) -> Self:
        if self.depth is not None and self.model.num_layers != self.depth:
            raise ValueError(
                f"model.num_layers {self.model.num_layers} is not depth {self.depth}: leave one of "
                "them out"
            )
        return self

    @property
    def package(self) -> str:
        """See ``TrainConfig``: the architecture's."""
        return self.model.architecture

    def weights_key(self) -> dict[str, Any]:
        """See ``TrainConfig``: without ``depth``, since all that follows from it is in the sections."""
        key = super().weights_key()
        del key["depth"]
        return key
