"""An entry of `finetune`: its models, and wrong ones, each refused with the field's name."""

from typing import Any, get_args

import pytest
from pydantic import ValidationError

from flows.recipe import Recipe
from flows.recipe_loader import format_validation_errors
from lm.config.finetune import ADAMW_LR, MUON_LR
from tasks.finetune.config import AnyFinetuneEntry, TextEntry
from tasks.finetune.entry import NO_KEY, PREPARE_KEY, SCORE_KEY, WEIGHTS_TOO
from tasks.suites.task import TEXT_TASKS
from tests.train_entry import train_entry

SIZES = {"num_layers": 1, "hidden_size": 16, "num_heads": 2, "train_tokens": 64}


def recipe(*entries: dict[str, Any]) -> dict[str, Any]:
    """A recipe with an encoder, a decoder, an encoder-decoder, and models that are counted."""
    return {
        "name": "r",
        "sources": [{"kind": "documents", "name": "docs", "paths": ["x.jsonl"]}],
        "train": [
            train_entry(name="enc", family="encoder", **SIZES),
            train_entry(name="dec", **SIZES),
            train_entry(name="s2s", family="seq2seq", **SIZES),
            {"name": "grams", "family": "ngram"},
            {"name": "vectors", "family": "word2vec"},
        ],
        "finetune": list(entries),
    }


def entry(**changes: Any) -> dict[str, Any]:
    """A classifier."""
    value = {"name": "t", "base": "enc", "task": "classification", "data": {"files": ["x.tsv"]}}
    return value | changes


def names(value: dict[str, Any]) -> list[str]:
    """The models of a recipe's entries of `finetune`."""
    parsed = Recipe.model_validate(value)
    return [variant.name for item in parsed.finetune for variant in item.expand()]


def test_an_entry_describes_its_models() -> None:
    assert names(recipe(entry())) == ["t", "t-scratch"]
    budgets = {"from_scratch": False, "budgets": [0.01, 0.1, 1.0]}
    assert names(recipe(entry(baselines=budgets))) == ["t", "t-10pct", "t-1pct"]
    assert names(recipe(entry(seeds=[1, 2], baselines={"from_scratch": False}))) == [
        "t-seed1",
        "t-seed2",
    ]


def test_every_field_decides_what_it_should() -> None:
    """A field that decides nothing would be a change without effect."""
    entries = [item.__origin__ for item in get_args(get_args(AnyFinetuneEntry)[0])]
    assert len(entries) == 7
    for item in entries:
        fields = set(item.model_fields)
        assert not SCORE_KEY & PREPARE_KEY
        assert WEIGHTS_TOO < PREPARE_KEY
        decides_weights = fields - NO_KEY - SCORE_KEY - (PREPARE_KEY - WEIGHTS_TOO)
        task = item.model_fields["task"].annotation.__args__[0]
        base = {"qa": "enc", "seq2seq": "s2s", "chat": "dec", "completion": "dec"}.get(task, "enc")
        parsed = Recipe.model_validate(recipe(entry(task=task, base=base))).finetune[0]
        assert set(parsed.weights_key()) == decides_weights
        assert set(parsed.prepare_key()) == fields & PREPARE_KEY
        assert set(parsed.score_key()) == (fields & SCORE_KEY) | {"max_length", "bleu_tokenizer"}


@pytest.mark.parametrize(
    ("changes", "optimizer", "rate"),
    [
        ({}, "muon", MUON_LR),
        ({"optim": {"optimizer": "adamw"}}, "adamw", ADAMW_LR),
        ({"optim": {"lr": 0.1}}, "muon", 0.1),
        ({"model": {"lora": {"rank": 2}}}, "adamw", ADAMW_LR),
        ({"model": {"lora": {}}, "optim": {"epochs": 1, "lr": 0.1}}, "adamw", 0.1),
        ({"model": {"lora": None}}, "muon", MUON_LR),
    ],
)
def test_the_default_rate_is_that_of_the_optimizer(
    changes: dict[str, Any], optimizer: str, rate: float
) -> None:
    (parsed,) = Recipe.model_validate(recipe(entry(**changes))).finetune
    assert (parsed.optim.optimizer, parsed.optim.lr) == (optimizer, rate)
    assert Recipe.model_validate(recipe(parsed.model_dump(mode="json"))).finetune == (parsed,)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"base": "nobody"}, "finetune.t.base"),
        ({"base": "grams"}, "finetune.t.base"),
        ({"base": "vectors"}, "finetune.t.base"),
        ({"base": "s2s"}, "finetune.t.base"),
        ({"task": "seq2seq"}, "finetune.t.base"),
        ({"task": "qa", "base": "dec"}, "finetune.t.base"),
        ({"task": "chat"}, "finetune.t.base"),
        ({"name": "dec"}, "dec"),
        (
            {"name": "t", "base": "enc", "model": {"max_length": 10_000}},
            "finetune.t.model.max_length",
        ),
    ],
)
def test_a_base_that_cannot_do_the_task_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as error:
        Recipe.model_validate(recipe(entry(**changes)))
    (message,) = format_validation_errors("r.yaml", error.value)
    assert field in message


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"task": "poetry"}, "finetune.t.task: "),
        ({"data": {"files": "x.csv"}}, "finetune.t.data.files: "),
        ({"data": {}}, "data"),
        ({"data": {"files": ["x"], "test_fraction": 0.0}}, "data.test_fraction"),
        ({"data": {"files": ["x"], "validation_fraction": 0.5, "test_fraction": 0.5}}, "data"),
        ({"data": {"files": ["x"], "encoding": "latin-9x"}}, "data.encoding"),
        ({"data": {"files": ["x"], "delimiter": "\n"}}, "data.delimiter"),
        ({"data": {"files": ["x"], "delimiter": "; "}}, "data.delimiter"),
        ({"folds": 1}, "folds"),
        ({"task": "embedding", "folds": 2}, "folds"),
        ({"task": "embedding", "run": {"num_processes": 2}}, "run.num_processes"),
        ({"task": "embedding", "optim": {"label_smoothing": 0.1}}, "optim.label_smoothing"),
        ({"optim": {"batch_size": 3}}, "optim.batch_size"),
        ({"model": {"lora": {}}, "optim": {"optimizer": "muon"}}, "optim.optimizer"),
        (
            {"optim": {"lr_grid": [0.1, 0.2]}, "data": {"files": ["x"], "validation_fraction": 0}},
            "lr_grid",
        ),
        ({"baselines": {"budgets": []}}, "budgets"),
        ({"temperature": 0.1}, "temperature"),
        (
            {
                "run": {
                    "num_nodes": 2,
                    "num_processes": 2,
                    "rendezvous": "h:1",
                    "checkpoint_url": "/c",
                }
            },
            "num_nodes",
        ),
        ({"name": "n" * 64}, "name"),
    ],
)
def test_a_wrong_value_is_refused_with_its_field(changes: dict[str, Any], field: str) -> None:
    value = recipe(entry(**changes))
    with pytest.raises(ValidationError) as error:
        Recipe.model_validate(value)
    assert field in "\n".join(format_validation_errors("r.yaml", error.value, value))


def test_an_entry_without_a_model_of_all_examples_has_nothing_to_score_on_suites() -> None:
    value = recipe(
        entry(base="dec", task="chat", suites=True, baselines={"budgets": [0.1]}, name="talk")
    )
    value["evaluate"] = {"suites": ["panel.yaml"]}
    with pytest.raises(ValidationError, match=r"baselines\.budgets"):
        Recipe.model_validate(value)
    value["finetune"][0] |= {"seeds": [1]}
    assert "talk-seed1" in names(value)
    value["finetune"][0] |= {"seeds": [], "baselines": {"budgets": [0.1, 1.0]}}
    assert "talk" in names(value)


def test_columns_may_be_numbers() -> None:
    data = {"files": ["x.conll"], "columns": {"words": 0, "tags": -1}}
    value = entry(task="tagging", data=data)
    assert Recipe.model_validate(recipe(value)).finetune[0].data.columns == {
        "words": "0",
        "tags": "-1",
    }


def pair(name: str, languages: list[str] | None, translator: str | None = None) -> dict[str, Any]:
    value = entry(name=name, task="seq2seq", base="s2s")
    if languages:
        value["languages"] = languages
    if translator:
        value["augment"] = {"back_translation": {"model": translator}}
    return value


def test_targets_are_translated_back_by_an_earlier_entry_of_the_other_direction() -> None:
    Recipe.model_validate(recipe(pair("back", ["de", "en"]), pair("t", ["en", "de"], "back")))


@pytest.mark.parametrize(
    "entries",
    [
        [pair("t", ["en", "de"], "nobody")],
        [pair("t", ["en", "de"], "back"), pair("back", ["de", "en"])],
        [entry(name="back"), pair("t", ["en", "de"], "back")],
        [pair("back", ["en", "de"]), pair("t", ["en", "de"], "back")],
        [pair("back", None), pair("t", ["en", "de"], "back")],
        [pair("back", ["de", "en"]), pair("t", None, "back")],
    ],
)
def test_a_translator_that_does_not_exist_or_of_the_wrong_direction_is_named(
    entries: list[dict[str, Any]],
) -> None:
    with pytest.raises(ValidationError) as error:
        Recipe.model_validate(recipe(*entries))
    (message,) = format_validation_errors("r.yaml", error.value)
    assert "finetune.t.augment.back_translation.model" in message


def test_a_base_with_a_slash_is_a_folder() -> None:
    (item,) = Recipe.model_validate(recipe(entry(base="s3://bucket/model"))).finetune
    assert item.base_folder == "s3://bucket/model"
    (item,) = Recipe.model_validate(recipe(entry())).finetune
    assert item.base_folder is None


def test_a_language_that_cannot_be_identified_is_refused() -> None:
    Recipe.model_validate(recipe(pair("t", ["en-GB", "zh-TW"])))
    with pytest.raises(ValidationError) as error:
        Recipe.model_validate(recipe(pair("t", ["english", "de"])))
    (message,) = format_validation_errors("r.yaml", error.value)
    assert "languages" in message
    assert "'english'" in message


def test_suites_are_for_the_tasks_whose_models_give_texts_a_probability() -> None:
    tasks = (get_args(own.model_fields["task"].annotation) for own in TextEntry.__subclasses__())
    assert {name for names in tasks for name in names} == TEXT_TASKS
