"""Read a recipe from a YAML file, apply overrides, and explain mistakes, one line each."""

import codecs
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from flows.overrides import set_field
from flows.recipe import NAME_PATTERN, Recipe
from flows.recipe_yaml import parse_yaml
from infra.errors import UserError
from infra.store.environment import mask
from lm.config.entry import DEFAULT_FAMILY

# What pydantic calls by the names of Python's types.
EXPECTED = {
    "string_type": "a text is expected",
    "tuple_type": "a list is expected",
    "dict_type": "a mapping is expected",
    "model_type": "a mapping is expected",
    "model_attributes_type": "a mapping is expected",
}


class RecipeError(UserError):
    """A recipe that cannot be used; the message names the file and the field, one line per mistake."""


def load_recipe(path: str, overrides: Sequence[str] = (), storage: str | None = None) -> Recipe:
    """Read a recipe.

    Args:
        path: a YAML file. ``${NAME}`` and ``${NAME:-default}`` in its strings are replaced from
            the environment.
        overrides: ``section.key=value`` each, the value in YAML; list entries are chosen by
            position or by name, as in ``train.tiny.model.num_layers=2``.
        storage: replaces the recipe's ``storage``.

    Raises:
        RecipeError: naming the file, the field and what was expected.
    """
    try:
        value = parse_yaml(_read_text(path))
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        raise RecipeError(f"{path}: a mapping with name, sources, ... is expected")
    for override in overrides:
        _apply_override(value, override)
    if storage is not None:
        value["storage"] = storage
    try:
        return Recipe.model_validate(value)
    except ValidationError as error:
        raise RecipeError("\n".join(format_validation_errors(path, error, value))) from None


def _read_text(path: str) -> str:
    """Read a file in UTF-8, or in UTF-16 with its byte order mark."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise RecipeError(f"{path}: a folder; the recipe is a file in it") from None
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from None
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{path}: line {line}: not text in UTF-8") from None


def format_validation_errors(path: str, error: ValidationError, value: Any = None) -> list[str]:
    """Format one line per mistake: the file, the field, what is wrong with it.

    Args:
        path: of the file.
        error: all mistakes.
        value: the content of the file, for the names of list entries; without it entries are
            numbered.
    """
    lines = []
    mistakes = error.errors(include_url=False)
    for mistake in mistakes:
        loc = mistake["loc"]
        if any(other["loc"][: len(loc)] == loc != other["loc"] for other in mistakes):
            continue  # a list that lacks an entry because that entry is wrong
        where = ": ".join([path, *filter(None, [".".join(_field_path(loc, value))])])
        if mistake["type"] == "extra_forbidden":
            lines.append(f"{where}: unknown key")
            continue
        if mistake["type"] == "union_tag_invalid":
            lines.append(mask(f"{where}{_describe_tag(mistake['ctx'], mistake['input'])}"))
            continue
        message = mistake["msg"].removeprefix("Value error, ")
        message = EXPECTED.get(mistake["type"], message)
        if mistake["type"] == "string_type" and isinstance(mistake.get("input"), int | float):
            message = "a text is expected; write it in quotes"
        given = mistake.get("input")
        shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
        lines.append(mask(f"{where}: {message}{shown}"))
    return lines


def _describe_tag(context: Mapping[str, Any], section: Any) -> str:
    """Describe a value that names no member of a union of sections, with its key: `.task: 'x' is none of ...`."""
    tag, values = context["tag"], section if isinstance(section, dict) else {}
    chooser = str(context["discriminator"]).strip("_()'")
    key = next((name for name in (chooser, *values) if str(values.get(name)) == tag), None)
    if key is None:
        return f".{chooser}: the key is missing; one of {context['expected_tags']}"
    return f".{key}: {tag!r} is none of {context['expected_tags']}"


def _field_path(loc: Sequence[int | str], value: Any) -> Iterator[str]:
    """Yield the keys of a field; an entry of a list by its name if the name is unique."""
    for key in loc:
        shown = str(key)
        if isinstance(value, list) and isinstance(key, int):
            names = [item.get("name") if isinstance(item, dict) else None for item in value]
            exists = key < len(names)  # a missing entry has an index beyond the given ones
            name = names[key] if exists else None
            if (
                isinstance(name, str)
                and re.fullmatch(NAME_PATTERN, name)
                and names.count(name) == 1
            ):
                shown = name
            value = value[key] if exists else None
        elif isinstance(value, dict):
            members = (value.get("family", DEFAULT_FAMILY), value.get("task"))
            if key not in value and key in members:
                continue  # which member of the union it is: no key of the recipe
            value = value.get(key, value)  # a source's kind is in `loc`, but not in the value
        yield shown


def _apply_override(value: dict[str, Any], override: str) -> None:
    """Set one field of the raw recipe in place."""
    path, equals, text = override.partition("=")
    if not equals:
        raise RecipeError(f"--set {override}: section.key=value is expected")
    try:
        new = parse_yaml(text)
    except yaml.YAMLError:
        raise RecipeError(f"--set {override}: the value is not YAML") from None
    try:
        set_field(value, path, new)
    except ValueError as error:
        raise RecipeError(f"--set {override}: {error}") from None
