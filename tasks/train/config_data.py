"""What a run learns from and in which portions: a part of an entry of the recipe's `train` list."""

from pydantic import Field

from infra.config import Section


class DataPart(Section):
    """How much, how it is cut, and what is held beside it."""

    tokens: int = Field(ge=1, description="tokens to train on, in all")
    batch: int | None = Field(
        None,
        ge=1,
        description=(
            "sequences per step over all processes; default: as many as make 4,096 tokens "
            "(measured: larger steps learn less per token, smaller ones cost more per token)"
        ),
    )
    micro_batch: int | None = Field(
        None,
        ge=1,
        description=(
            "sequences per process in one pass, gradients being accumulated over passes; "
            "default: what makes at most 4,096 tokens on a CPU, 65,536 on a GPU"
        ),
    )
    validation_tokens: int = Field(
        65_536, ge=0, description="held-out tokens that the validation loss is taken over, at most"
    )
