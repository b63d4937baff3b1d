"""The base of every section of a recipe."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import AfterValidator, BaseModel, ConfigDict, WithJsonSchema


class ConfigModel(BaseModel):
    """A section of the recipe: unknown keys are errors, values are immutable, numbers are finite."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        populate_by_name=True,
        allow_inf_nan=False,
    )

    def to_json(self) -> dict[str, object]:
        """Return the section as JSON values, defaults included, for fingerprints."""
        return self.model_dump(mode="json", by_alias=True)


def flatten_sections(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration's fields by dotted name, such as ``optim.lr``; one level deep."""
    fields: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            fields |= {f"{key}.{name}": item for name, item in value.items()}
        else:
            fields[key] = value
    return fields


def one_of(kind: str, names: frozenset[str]) -> AfterValidator:
    """Validate that a value is one of ``names``; the error lists them."""

    def check(name: str) -> str:
        if name not in names:
            raise ValueError(f"no {kind} is named {name!r}; choose from {', '.join(sorted(names))}")
        return name

    return AfterValidator(check)


def json_enum(names: Iterable[str]) -> WithJsonSchema:
    """Declare the allowed names in the JSON schema, for Prefect's form."""
    return WithJsonSchema({"type": "string", "enum": sorted(names)})
