"""What an entry of the recipe's `train` list has whatever its family."""

from typing import Annotated

from pydantic import Field, StringConstraints

from infra.config import ConfigModel

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
DEFAULT_FAMILY = "decoder"


class TrainEntry(ConfigModel):
    """One model to make; each family's entry narrows ``family`` and adds its own sections."""

    name: Name = Field(description="names the model in folders, reports and exports")
    family: str
