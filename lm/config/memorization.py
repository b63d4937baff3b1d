"""The recipe's section `evaluate.memorization`."""

from pydantic import Field

from infra.config import ConfigModel


class MemorizationConfig(ConfigModel):
    """How much of its training text a model can repeat (Carlini et al. 2022, arXiv:2202.07646)."""

    documents: int = Field(
        300,
        ge=1,
        le=100_000,
        description=(
            "number of training documents of each group, by how often their text occurs, and of held-out "
            "documents"
        ),
    )
    prefix_tokens: tuple[int, ...] = Field(
        (32, 50), min_length=1, description="lengths of the beginnings that the model continues"
    )
    continuation_tokens: int = Field(
        50, ge=2, description="number of tokens that it has to repeat, all of them"
    )
    near_exact: float = Field(
        0.9,
        gt=0,
        le=1,
        description=(
            "fraction of these tokens that have to be the most probable ones, each after the right ones before it, "
            "for a passage to be repeated almost exactly"
        ),
    )
    canary_candidates: int = Field(
        999,
        ge=1,
        le=1_000_000,
        description="random secrets that each canary of `tokenize.canaries` is compared with",
    )
