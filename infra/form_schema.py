"""The JSON schema of a union of sections, as Prefect's form shows it and its server checks it.

Pydantic describes such a union as ``oneOf``. Prefect's form would then guess which section a value
belongs to, and its server would refuse a wrong value as "not valid under any of the given schemas"
without naming the key. One object with the keys of all sections, and a condition per section
that refuses the keys of the others, is a plain form, and errors name the key.
"""

from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

ANNOTATIONS = ("title", "description", "default")  # of a key; they allow and refuse nothing


class ConditionalForm:
    """Describe a union of sections as one object; a key of it says which section applies.

    Conditions do without ``required``: Prefect removes that word wherever it stands when it checks the
    parameters of a deployment.
    """

    def __init__(self, key: str, default: str | None = None) -> None:
        """Name the key, and its value where it is missing."""
        self._key = key
        self._default = default

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Replace the schema of the union."""
        references = handler(schema)["oneOf"]
        sections = {
            str(section["properties"][self._key]["const"]): (reference, section)
            for reference in references
            for section in [handler.resolve_ref_schema(reference)]
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
        """Return the keys of all sections, for the form.

        They have no defaults: a form sends these, and most sections do not have most keys.
        """
        chosen: dict[str, JsonSchemaValue] = {}
        owners: dict[str, list[str]] = {}
        for name, section in sections.items():
            for key, value in section["properties"].items():
                owners.setdefault(key, []).append(name)
                if key not in chosen:
                    chosen[key] = dict(value)
                elif _rules(chosen[key]) != _rules(value):  # checked by the conditions
                    chosen[key] = {word: value[word] for word in ANNOTATIONS if word in value}
        for key, value in chosen.items():
            default = value.pop("default", None)
            where = "" if len(owners[key]) == len(sections) else f"{', '.join(owners[key])}: "
            shown = f" (default: {default})" if default not in (None, [], "") else ""
            if where or shown or "description" in value:
                value["description"] = f"{where}{value.get('description', '')}{shown}"
        return {
            self._key: {"title": self._key, "type": "string", "enum": list(sections)},
            **{key: value for key, value in chosen.items() if key != self._key},
        }


def _equals(key: str, value: str, *, missing: bool) -> JsonSchemaValue:
    """Return a condition: the key has this value, or, if ``missing``, it is not there."""
    if missing:
        return {"properties": {key: {"const": value}}}
    return {"not": {"properties": {key: {"not": {"const": value}}}}}


def _rules(value: JsonSchemaValue) -> dict[str, Any]:
    return {word: item for word, item in value.items() if word not in ANNOTATIONS}
