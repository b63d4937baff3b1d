"""The `data` section of an entry of the recipe's `train` list: tokens, batches and their order."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator

from infra.config import ConfigModel

CYCLE_SAMPLES = 1024  # samples in which each source of a mixture has exactly its fraction


class GoldfishConfig(ConfigModel):
    """Which tokens the goldfish loss leaves out (Hans et al. 2024, arXiv:2406.10209)."""

    k: int = Field(
        4,
        ge=2,
        description="one token in k is not trained on; smaller: less is memorized (the paper's default)",
    )
    context: int = Field(
        13,
        ge=1,
        description=(
            "the tokens before a token that decide whether it is left out, so that a passage that comes "
            "again has gaps in the same places (the paper's default)"
        ),
    )


class DataConfig(ConfigModel):
    """How much to train on, how documents become rows and steps, and how much to validate on."""

    train_tokens: int = Field(ge=1, description="number of tokens to train on in total")
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
            "sequences per process in one forward and backward pass; gradients are accumulated "
            "over the passes of a step; default: at most 4,096 tokens on a CPU, 65,536 on a GPU"
        ),
    )
    packing: Literal["concatenate", "concatenate_masked", "best_fit_masked"] = Field(
        "concatenate",
        description=(
            "how documents are put into rows. concatenate: one after the other, cut every "
            "context_length tokens; concatenate_masked: the same rows, but attention stops at the "
            "end of a document; best_fit_masked: documents whole where they fit, and masked "
            "(Ding et al. 2024, arXiv:2404.10830)"
        ),
    )
    mixture: dict[str, float] | None = Field(
        None,
        description=(
            "source: weight; in every 1,024 samples each source has exactly its fraction, and "
            "sources that are not named have none; default: every document once per epoch"
        ),
    )
    shuffle_window_tokens: int = Field(
        268_435_456,
        ge=1,
        description=(
            "approximate number of tokens that are shuffled, and downloaded from a remote store, "
            "at a time; a corpus of at most that many is shuffled as a whole"
        ),
    )
    shard_cache_bytes: int = Field(
        4_294_967_296,
        ge=1,
        description="maximum bytes of a remote store's token shards that this machine caches",
    )
    goldfish: GoldfishConfig | None = Field(
        None,
        description=(
            "models that predict next tokens: leave tokens out of the training loss by the tokens before "
            "them, so that passages are not memorized word for word; validation counts all tokens"
        ),
    )
    validation_tokens: int | None = Field(
        None,
        ge=0,
        description=(
            "maximum number of held-out tokens for the validation loss; at least one row of "
            "context_length tokens, or 0 for no validation; default: 65,536, or one row if that "
            "is longer"
        ),
    )

    @field_validator("mixture")
    @classmethod
    def _check_mixture(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if value is not None:
            cycle_counts(value)
        return value


def cycle_counts(weights: Mapping[str, float]) -> dict[str, int]:
    """Return the samples of a cycle by source: at least one each, by the largest remainder method.

    Raises:
        ValueError: if a weight is not positive, or too small for one sample in a cycle.
    """
    invalid = [name for name, weight in weights.items() if not 0 < weight < float("inf")]
    if invalid or not weights:
        raise ValueError(
            f"the weight of {invalid[0]!r} is not positive" if invalid else "no source"
        )
    total = sum(weights.values())
    exact = {name: CYCLE_SAMPLES * weights[name] / total for name in sorted(weights)}
    result = {name: int(count) for name, count in exact.items()}
    left = CYCLE_SAMPLES - sum(result.values())
    for name in sorted(exact, key=lambda name: (result[name] - exact[name], name))[:left]:
        result[name] += 1
    too_small = [name for name, count in result.items() if not count]
    if too_small:
        raise ValueError(
            f"{too_small[0]!r} would get less than one of {CYCLE_SAMPLES} samples: raise its weight or leave it out"
        )
    return result
