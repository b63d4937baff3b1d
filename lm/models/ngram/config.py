"""The entry of the recipe's `train` list for n-gram models."""

from typing import Literal, Self

from pydantic import Field, model_validator

from infra.config import ConfigModel
from lm.config.entry import TrainEntry

MAX_ORDER = 20


class NgramConfig(ConfigModel):
    """The longest n-grams, and which of them are kept."""

    order: int = Field(
        5,
        ge=1,
        le=MAX_ORDER,
        description="tokens of the longest n-grams; each token is predicted from `order` - 1 before it",
    )
    prune: tuple[int, ...] = Field(
        (0,),
        min_length=1,
        description=(
            "for each order from 1 on, n-grams that occur at most so often are left out; the last "
            "value is that of all higher orders, so [0, 0, 1] keeps what occurs once only up to "
            "order 2 (as lmplz --prune); the first is 0, and none is less than the one before"
        ),
    )

    @model_validator(mode="after")
    def _check_prune(self) -> Self:
        if self.prune[0] != 0:
            raise ValueError(
                f"prune: the first value is {self.prune[0]}; every token is kept, so it is 0"
            )
        if list(self.prune) != sorted(self.prune):
            raise ValueError(
                f"prune: {list(self.prune)} decreases; an n-gram that is kept contains shorter ones, "
                "which must be kept, too"
            )
        if len(self.prune) > self.order:
            raise ValueError(f"prune: {len(self.prune)} values for the order {self.order}")
        return self

    @property
    def prune_by_order(self) -> tuple[int, ...]:
        """``prune`` for each order."""
        return (*self.prune, *(self.prune[-1],) * (self.order - len(self.prune)))


class NgramEntry(TrainEntry):
    """An n-gram model with interpolated modified Kneser-Ney smoothing (Chen & Goodman 1998).

    It is counted in one pass over all training documents, so it has no steps and no optimizer.
    """

    family: Literal["ngram"] = Field(description="the family of the model")
    model: NgramConfig = Field(default_factory=NgramConfig)
