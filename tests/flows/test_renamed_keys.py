"""Keys of earlier recipes are refused with their new name."""

import typing
from collections.abc import Iterator
from typing import Any

import pytest
from prefect.exceptions import ParameterTypeError
from pydantic import BaseModel, ValidationError

from flows.recipe import Recipe
from flows.renamed_keys import RENAMED_KEYS, find_renamed_keys


def keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        yield from nested_keys(field.annotation, f"{prefix}{name}")


def nested_keys(annotation: Any, path: str) -> Iterator[str]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from keys_of(annotation, f"{path}.")
    elif origin is tuple:
        yield from nested_keys(arguments[0], f"{path}.*")
    elif origin is dict:
        yield from nested_keys(arguments[1], f"{path}.*")
    else:
        for argument in arguments:
            yield from nested_keys(argument, path)


def test_every_new_name_is_a_key_of_the_recipe_and_no_old_name_is() -> None:
    existing = set(keys_of(Recipe))
    assert set(RENAMED_KEYS.values()) <= existing
    assert not set(RENAMED_KEYS) & existing


def test_entries_are_shown_by_name_and_nested_mappings_by_key() -> None:
    recipe = {
        "sources": [{"kind": "books", "unwrap": False}],
        "dedup": {"languages": {"th": {"unit": "words"}}},
        "train": [{"name": "tiny", "layers": 2}],
    }
    assert list(find_renamed_keys(recipe)) == [
        "sources.0.unwrap was renamed to sources.0.unwrap_lines",
        "dedup.languages.th.unit was renamed to dedup.languages.th.shingle_unit",
        "train.tiny.layers was renamed to train.tiny.model.num_layers",
    ]
    assert list(find_renamed_keys({"dedup": None, "train": "x", "sources": [1]})) == []


def test_a_recipe_and_a_flow_parameter_are_refused() -> None:
    from flows.pipeline import pipeline

    source = {"name": "dump", "kind": "documents", "paths": ["x"]}
    recipe = {"name": "small", "sources": [source], "select": {"survivor": ["longest"]}}
    with pytest.raises(ValidationError, match=r"select\.prefer"):
        Recipe.model_validate(recipe)
    with pytest.raises(ParameterTypeError, match=r"select\.prefer"):
        pipeline.validate_parameters({"recipe": recipe})
