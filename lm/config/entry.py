"""What an entry of the recipe's `train` list has whatever its family."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Self

from pydantic import Field, StringConstraints

from infra.config import ConfigModel

MAX_NAME_CHARS = 64
Name = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=MAX_NAME_CHARS)
]
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
