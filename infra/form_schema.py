"""The JSON schema of a union of sections, as Prefect's form shows it and its server checks it.

Pydantic describes such a union as ``oneOf``. Prefect's form would then guess which section a value
belongs to, and its server would refuse a wrong value as "not valid under any of the given schemas"
without naming the key. One object with the keys of all sections, and a condition per section
that refuses the keys of the others, is a plain form, and errors name the key.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, Discriminator, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

ANNOTATIONS = ("title", "description", "default")  # of a key; they allow and refuse nothing


def key_discriminator(key: str, default: str) -> Discriminator:
    """Return what tells the members of a union apart: the value of a key, with one where it is missing."""

    def read(value: Any) -> str:
        if isinstance(value, dict):
            return str(value.get(key, default))
        return str(getattr(value, key, default))

    return Discriminator(read)


class ConditionalForm:
    """Describe a union of sections as one object; a key of it says which section applies.

    Conditions do without ``required``: Prefect removes that word wherever it stands when it checks the
    parameters of a deployment.
    """

    def __init__(self, key: str, default: str | None = None) -> None:
        """Name the key, and its value where it is missing."""
        self._key = key
        self._default = default

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Note the members of the union."""
        self._members = list(_models(source))
        return handler(source)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Replace the schema of the union."""
        self._resolve = handler.resolve_ref_schema
        # What a reference stands for is not defined yet, if the union is within a member of another.
        sections = {
            str(section["properties"][self._key]["const"]): (reference, section)
            for reference, member in zip(handler(schema)["oneOf"], self._members, strict=True)
            for section in [handler.resolve_ref_schema(handler(member.__pydantic_core_schema__))]
        }
        condition: JsonSchemaValue = {}
        for name in sections:
            condition = {
                "if": _equals(self._key, name, missing=name == self._default),
                "then": sections[name][0],
                "else": condition,
            }
        required = {key for _, section in sections.values() for key in section["required"]}
        return {
            "type": "object",
            "properties": self._properties({name: item[1] for name, item in sections.items()}),
            "required": sorted(
                key for key in required if all(key in s["required"] for _, s in sections.values())
            ),
            "additionalProperties": False,
            **condition,
        }

    def _properties(self, sections: dict[str, JsonSchemaValue]) -> dict[str, JsonSchemaValue]:
        """Return the keys of all sections, for the form."""
        properties = _merge(
            {name: section["properties"] for name, section in sections.items()}, self._resolve
        )
        return {
            self._key: {"title": self._key, "type": "string", "enum": list(sections)},
            **{key: value for key, value in properties.items() if key != self._key},
        }


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the members of a union of models."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _equals(key: str, value: str, *, missing: bool) -> JsonSchemaValue:
    """Return a condition: the key has this value, or, if ``missing``, it is not there."""
    if missing:
        return {"properties": {key: {"const": value}}}
    return {"not": {"properties": {key: {"not": {"const": value}}}}}


def _merge(
    sections: Mapping[str, Mapping[str, JsonSchemaValue]],
    resolve: Callable[[JsonSchemaValue], JsonSchemaValue],
) -> dict[str, JsonSchemaValue]:
    """Return the keys of some sections, by name, each with the sections that have it.

    They have no defaults: a form sends these, and most sections do not have most keys.
    """
    merged: dict[str, JsonSchemaValue] = {}
    for key in {key: None for properties in sections.values() for key in properties}:
        owners = {name: item[key] for name, item in sections.items() if key in item}
        value = dict(next(iter(owners.values())))
        if any(_rules(other) != _rules(value) for other in owners.values()):
            inner = {name: resolve(other) for name, other in owners.items()}
            value = {word: value[word] for word in ANNOTATIONS if word in value}
            if all("properties" in section for section in inner.values()):
                fields = {name: section["properties"] for name, section in inner.items()}
                value |= {"type": "object", "properties": _merge(fields, resolve)}
        default = value.pop("default", None)
        where = "" if len(owners) == len(sections) else f"{', '.join(owners)}: "
        shown = f" (default: {default})" if default not in (None, [], "") else ""
        if where or shown or "description" in value:
            text = f"{where}{value.get('description', '')}{shown}"
            value["description"] = text.removesuffix(": ")
        merged[key] = value
    return merged


def _rules(value: JsonSchemaValue) -> dict[str, Any]:
    return {word: item for word, item in value.items() if word not in ANNOTATIONS}
