"""What Prefect's server says about a wrong recipe: it names the field."""

import re
from typing import Any

import pytest
from prefect.utilities.schema_tools.validation import ValidationError, validate

from flows.pipeline import pipeline
from flows.recipe import Recipe

SCHEMA = pipeline.parameters.model_dump_for_openapi()


def recipe() -> dict[str, Any]:
    return {
        "name": "x",
        "sources": [
            {"kind": "documents", "name": "a", "paths": ["x"], "text_column": "body"},
            {"kind": "web", "name": "w", "start_urls": ["http://example.org/"], "delay": 2.5},
            {"kind": "books", "name": "b", "paths": ["x"], "unwrap_lines": False},
            {"kind": "warc", "name": "c", "paths": ["x"], "max_page_bytes": 5},
        ],
        "train": [
            {
                "name": "m",
                "model": {"num_layers": 1, "hidden_size": 8, "num_heads": 1, "num_kv_heads": 1},
                "data": {"train_tokens": 5},
            },
            {
                "name": "g",
                "model": {
                    "architecture": "gpt2", "num_layers": 1, "hidden_size": 8, "num_heads": 1, "bias": True
                },
                "data": {"train_tokens": 5},
            },
            {
                "name": "l",
                "family": "lstm",
                "model": {"num_layers": 1, "hidden_size": 8},
                "data": {"train_tokens": 5},
            },
        ],
    }  # fmt: skip


def error(value: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as raised:
        validate({"recipe": value}, SCHEMA, raise_on_error=True)
    return str(raised.value)


@pytest.mark.parametrize("ignore_required", [False, True], ids=["run", "deployment"])
def test_a_recipe_with_all_kinds_is_valid(ignore_required: bool) -> None:
    Recipe.model_validate(recipe())
    validate({"recipe": recipe()}, SCHEMA, raise_on_error=True, ignore_required=ignore_required)


@pytest.mark.parametrize(
    ("section", "index", "change", "field", "word"),
    [
        ("sources", 1, {"delay": "slow"}, "sources[1].delay", "number"),
        ("sources", 1, {"dleay": 1.0}, "sources[1]", "dleay"),
        ("sources", 1, {"recrawl": "yearly"}, "sources[1].recrawl", "yearly"),
        ("sources", 1, {"start_urls": []}, "sources[1].start_urls", "[]"),
        ("sources", 0, {"delay": 1.0}, "sources[0]", "delay"),
        ("sources", 2, {"text_column": "t"}, "sources[2]", "text_column"),
        ("sources", 0, {"kind": "wbe"}, "sources[0].kind", "wbe"),
        ("sources", 3, {"max_page_bytes": 0}, "sources[3].max_page_bytes", "minimum"),
        ("train", 0, {"model": {"num_layers": "two"}}, "train[0].model.num_layers", "integer"),
        ("train", 0, {"model": {"bias": True}}, "train[0].model", "bias"),
        ("train", 1, {"model": {"num_kv_heads": 1}}, "train[1].model", "num_kv_heads"),
        ("train", 1, {"model": {"architecture": "gpt3"}}, "train[1].model.architecture", "gpt3"),
        ("train", 1, {"family": "decoders"}, "train[1].family", "decoders"),
        ("train", 2, {"model": {"num_heads": 1}}, "train[2].model", "num_heads"),
        ("train", 2, {"model": {"num_layers": "two"}}, "train[2].model.num_layers", "integer"),
    ],
)
def test_a_wrong_value_is_refused_with_its_field(
    section: str, index: int, change: dict[str, Any], field: str, word: str
) -> None:
    value = recipe()
    entry = value[section][index]
    for key, item in change.items():
        entry[key] = {**entry[key], **item} if isinstance(item, dict) else item
    message = error(value)
    assert f"'recipe.{field}'" in message
    assert word in message
    assert not re.search("any of the given schemas", message)


@pytest.mark.parametrize(("index", "key"), [(0, "kind"), (1, "start_urls"), (2, "name")])
def test_a_missing_key_is_named(index: int, key: str) -> None:
    value = recipe()
    del value["sources"][index][key]
    message = error(value)
    assert f"'recipe.sources[{index}]'" in message
    assert f"'{key}'" in message


def test_the_form_of_a_source_sends_no_default_of_another_kind() -> None:
    items = SCHEMA["definitions"]["Recipe"]["properties"]["sources"]["items"]
    assert items["properties"]["kind"]["enum"] == ["web", "warc", "books", "documents"]
    assert not any("default" in value for value in items["properties"].values())
    assert items["properties"]["delay"]["description"].startswith("web: ")


def test_the_form_of_a_model_has_the_keys_of_all_families() -> None:
    entry = SCHEMA["definitions"]["Recipe"]["properties"]["train"]["items"]
    assert {"decoder", "encoder", "lstm", "seq2seq"} <= set(entry["properties"]["family"]["enum"])
    model = entry["properties"]["model"]["properties"]
    assert model["num_heads"]["description"].startswith("decoder, encoder, seq2seq: ")
    assert not any("default" in value for value in model.values())
