"""What a run learns from and in which portions: a part of an entry of the recipe's `train` list."""

from typing import Literal

from pydantic import Field, field_validator

from infra.config import ConfigModel
from lm.data.mixture import cycle_counts


class DataConfig(ConfigModel):
    """How much, how it is cut, and what is held beside it."""

    init_from: str | None = Field(
        None,
        description=(
            "an entry of `train` that stands before this one: its weights are what this one starts "
            "with, in a stage of its own (docs/train.md, Stages); default: random weights"
        ),
    )
    train_tokens: int = Field(ge=1, description="tokens to train on, in all")
    global_batch_size: int | None = Field(
        None,
        ge=1,
        description=(
            "sequences per step over all processes; default: as many as make 4,096 tokens "
            "(measured: larger steps learn less per token, smaller ones cost more per token)"
        ),
    )
    micro_batch_size: int | None = Field(
        None,
        ge=1,
        description=(
            "sequences per process in one pass, gradients being accumulated over passes; "
            "default: what makes at most 4,096 tokens on a CPU, 65,536 on a GPU"
        ),
    )
    packing: Literal["concatenate", "mask", "best_fit"] = Field(
        "concatenate",
        description=(
            "how documents share rows. concatenate: one after the other, cut every `context` "
            "tokens; mask: the same rows, but nothing looks across the end of a document; "
            "best_fit: documents whole where they fit, and masked (Ding et al. 2024, "
            "arXiv:2404.10830)"
        ),
    )
    mixture: dict[str, float] | None = Field(
        None,
        description=(
            "source: weight; of every 1,024 samples each source has its share to the sample, "
            "sources not named have none; default: every document once per epoch"
        ),
    )
    shuffle_window_tokens: int = Field(
        268_435_456,
        ge=1,
        description=(
            "about so many tokens are shuffled, and of a remote store kept at hand, at a time; "
            "a corpus of at most that many is shuffled as a whole"
        ),
    )
    shard_cache_bytes: int = Field(
        4_294_967_296,
        ge=1,
        description="bytes of a remote store's shards that are kept on this machine, at most",
    )
    validation_tokens: int | None = Field(
        None,
        ge=0,
        description=(
            "held-out tokens that the validation loss is taken over, at most; at least one row of "
            "`context`, or 0: no validation; default: 65,536, or one row if that is longer"
        ),
    )

    @field_validator("mixture")
    @classmethod
    def _check_mixture(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if value is not None:
            cycle_counts(value)
        return value
