"""What an entry of the recipe's `train` list has whatever its family."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from infra.config import ConfigModel

MAX_NAME_CHARS = 64
Name = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=MAX_NAME_CHARS)
]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
DEFAULT_FAMILY = "decoder"


class TrainEntry(ConfigModel):
    """A model to make, or several that differ in their seed.

    Each family's entry narrows ``family`` and adds its own sections.
    """

    # Whether a model says how probable a text is, for which evaluation needs text of its own.
    gives_probability: ClassVar[bool] = True

    name: Name = Field(description="names the model in folders, reports and exports")
    family: str

    def expand(self) -> Iterator[Self]:
        """Yield an entry for each model that this one describes."""
        yield self


class SeededEntry(TrainEntry):
    """A model whose training draws random numbers."""

    seed: Seed | None = Field(
        None,
        description=(
            "seed of all that training draws: weights, the order of the samples, dropout, random words; "
            "default: the recipe's, which everything else depends on, too"
        ),
    )
    seeds: tuple[Seed, ...] = Field(
        (),
        description=(
            "trains a model with each of these seeds, named NAME-seedN, instead of one; the "
            "leaderboard shows their mean and spread"
        ),
    )

    @field_validator("seeds")
    @classmethod
    def _check_repeated(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        repeated = sorted({seed for seed in value if value.count(seed) > 1})
        if repeated:
            raise ValueError(f"{repeated[0]} is given twice; the two models would be the same")
        return value

    @model_validator(mode="after")
    def _check_seeds(self) -> Self:
        if self.seed is not None and self.seeds:
            raise ValueError("seed and seeds are both given: leave one of them out")
        longest = max((seeded_name(self.name, seed) for seed in self.seeds), key=len, default="")
        if len(longest) > MAX_NAME_CHARS:
            raise ValueError(f"seeds: {longest} has more than {MAX_NAME_CHARS} characters")
        return self

    def expand(self) -> Iterator[Self]:
        """Yield an entry per model: itself, or one for each of ``seeds``."""
        if not self.seeds:
            yield self
        for seed in self.seeds:
            name = seeded_name(self.name, seed)
            yield self.model_copy(update={"name": name, "seed": seed, "seeds": ()})

    def model_seed(self, recipe_seed: int) -> int:
        """Return the seed of the model: the entry's, or else the recipe's."""
        return recipe_seed if self.seed is None else self.seed


def seeded_name(name: str, seed: int) -> str:
    """Return the name of the model that an entry with ``seeds`` makes with one of them."""
    return f"{name}-seed{seed}"
