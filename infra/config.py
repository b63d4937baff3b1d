"""The base of every section of a recipe."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import AfterValidator, BaseModel, ConfigDict, WithJsonSchema


class ConfigModel(BaseModel):
    """A part of the recipe: unknown keys are errors, values never change after reading.

    A number is finite: what ``.inf`` would mean a field says in another way, or not at all.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        populate_by_name=True,
        allow_inf_nan=False,
    )

    def to_json(self) -> dict[str, object]:
        """The section as plain JSON values, defaults included: what enters a fingerprint."""
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
    """Refuses a name that is not one of ``names``, and lists them."""

    def check(name: str) -> str:
        if name not in names:
            raise ValueError(f"no {kind} is named {name!r}; there are {', '.join(sorted(names))}")
        return name

    return AfterValidator(check)


def json_enum(names: Iterable[str]) -> WithJsonSchema:
    """For Prefect's server and form, which know the recipe by its JSON schema alone."""
    return WithJsonSchema({"type": "string", "enum": sorted(names)})
