"""The base of every section of a recipe."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the recipe: unknown keys are errors, values never change after reading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, populate_by_name=True
    )

    def facts(self) -> dict[str, object]:
        """The section as plain JSON values, defaults included: what enters a fingerprint."""
        return self.model_dump(mode="json", by_alias=True)
