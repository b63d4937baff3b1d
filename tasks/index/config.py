"""The recipe's `index` section."""

from pydantic import Field

from infra.config import ConfigModel

# Half of what a suffix array can hold: a group ends with the part that reaches it.
MAX_GROUP_TOKENS = 2**30


class IndexConfig(ConfigModel):
    """How the training tokens are divided into suffix arrays."""

    group_tokens: int = Field(
        16_777_216,
        ge=1,
        le=MAX_GROUP_TOKENS,
        description=(
            "tokens that share a suffix array: consecutive parts of token shards, until there are as "
            "many. Fewer arrays are faster to search; one takes 20 bytes of a worker's memory per token "
            "while it is built"
        ),
    )
