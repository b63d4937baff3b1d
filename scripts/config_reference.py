"""Write the reference of all settings from the recipe's model: ``python -m scripts.config_reference``."""

import sys
import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from flows.recipe import Recipe

HEADER = """# Every setting of a recipe

This page is generated from the recipe's model by `make docs`; a test checks that it is up to date.

A recipe is one YAML file. Unknown keys and wrong values are errors that name the field.
`${NAME}` and `${NAME:-default}` in a string are replaced from the environment where the value is used; what is stored has
`${NAME}` ([Secrets](operate.md#secrets)). On the command line,
`--set section.key=value` overrides a value (entries of a list by position or name:
`--set train.tiny.model.num_layers=2`), and `--storage URL` the storage.
"""


def render_reference() -> str:
    """Render the page in Markdown."""
    return "\n".join([HEADER, *_render_sections(Recipe, "", set())]).rstrip() + "\n"


def _render_sections(
    model: type[BaseModel], prefix: str, seen: set[tuple[str, type[BaseModel]]], tag: str = ""
) -> Iterator[str]:
    """Yield a table of a model's fields, then the sections of its nested models."""
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    inner: list[tuple[str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        key = field.alias or name
        models = list(_nested_models(field.annotation))
        inner += [(f"{prefix}{key}", item) for item in models]
        kind = _type_name(field.annotation)
        if models:
            is_list = typing.get_origin(field.annotation) is tuple
            kind = "list of sections" if is_list else "section"
        text = (field.description or "").replace("|", "\\|").replace("\n", " ")
        yield f"| `{key}` | {kind} | {_format_default(field)} | {text} |"
    yield ""
    for path, item in inner:
        if (path, item) in seen:  # several kinds of an entry have the same section
            continue
        seen.add((path, item))
        tags = {
            key: item.model_fields.get(key) for key in ("kind", "family", "architecture", "task")
        }
        # A section of one kind of an entry, not one that all kinds have.
        is_own = item.__module__.startswith(model.__module__.rpartition(".")[0])
        suffix = (tag if is_own else "") + "".join(
            f", {key} `{typing.get_args(field.annotation)[0]}`"
            for key, field in tags.items()
            if field is not None
        )
        yield f"## `{path}`{suffix}"
        yield ""
        if item.__doc__:
            yield " ".join(item.__doc__.split())
            yield ""
        yield from _render_sections(item, f"{path}.", seen, suffix)


def _nested_models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for argument in typing.get_args(annotation):
        yield from _nested_models(argument)


def _type_name(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type_name(arguments[0])
    if origin is typing.Literal:
        return " \\| ".join(f"`{item}`" for item in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_name(item) for item in arguments)
    if origin is tuple:
        return f"list of {_type_name(arguments[0])}"
    if origin is not None and arguments:
        return f"map of {' to '.join(_type_name(item) for item in arguments)}"
    if annotation is type(None):
        return "null"
    if typing.is_typeddict(annotation):
        return "map"
    return {"str": "text", "int": "integer", "float": "number", "bool": "true or false"}.get(
        getattr(annotation, "__name__", ""), "any"
    )


def _format_default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        return "see below"
    if value is PydanticUndefined or value is None:
        return "null"
    if isinstance(value, tuple):
        value = list(value)
    return f"`{value}`"


if __name__ == "__main__":
    sys.stdout.write(render_reference())
