"""The base of every section of a recipe."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    WithJsonSchema,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from infra.store.environment import expand, has_reference, mask

# A context for ``model_dump``: serialize values, not references.
EXPANDED = {"expanded": True}


class ConfigModel(BaseModel):
    """A section of the recipe: unknown keys are errors, values are immutable, numbers are finite.

    ``${NAME}`` in a field is expanded from the environment of the process that validates it. Dumps of
    the model, such as Prefect's parameters, hold the reference.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        populate_by_name=True,
        allow_inf_nan=False,
    )

    _references: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _expand_references(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(value, dict):
            return handler(value)
        sections = _section_fields(cls)  # they expand their own
        references = {
            key: item for key, item in value.items() if key not in sections and has_reference(item)
        }
        if not references:
            return handler(value)
        expanded, missing = dict(value), []
        for key, item in references.items():
            try:
                expanded[key] = expand(item)
            except ValueError as error:
                missing.append(_error_details("value_error", str(error), (key,), item))
        if missing:
            raise ValidationError.from_exception_data(cls.__name__, missing)
        try:
            model = handler(expanded)
        except ValidationError as error:
            masked = [
                _error_details(item["type"], mask(item["msg"]), item["loc"], mask(item["input"]))
                for item in error.errors()
            ]
            raise ValidationError.from_exception_data(cls.__name__, masked) from None
        model._references = references
        return model

    @model_serializer(mode="wrap")
    def _keep_references(
        self, handler: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        if info.context == EXPANDED:
            return values
        return {key: self._references.get(key, item) for key, item in values.items()}

    def to_json(self) -> dict[str, Any]:
        """Return the section as JSON values, defaults included, for fingerprints."""
        return self.model_dump(mode="json", by_alias=True, context=EXPANDED)

    def to_record(self) -> dict[str, Any]:
        """Return the section as JSON values that may be stored: ``${NAME}`` is not expanded."""
        return self.model_dump(mode="json", by_alias=True)


@cache
def _section_fields(model: type[BaseModel]) -> frozenset[str]:
    """Return the names of the fields that hold sections."""
    return frozenset(
        name for name, field in model.model_fields.items() if _has_section(field.annotation)
    )


def _has_section(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return True
    return any(_has_section(argument) for argument in get_args(annotation))


def _error_details(
    kind: str, message: str, loc: tuple[int | str, ...], given: Any
) -> InitErrorDetails:
    error = PydanticCustomError(kind, "{message}", {"message": message})
    return InitErrorDetails(type=error, loc=loc, input=given)


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
