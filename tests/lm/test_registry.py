"""Families of models: each has its own settings, its own code, and a line of the registry."""

import typing
from importlib import import_module
from pathlib import Path

import pytest
from pydantic import ValidationError

import lm.models
from infra.dataset.code_version import module_digests
from lm.models.causal_lm import CausalLM
from lm.models.registry import ModelConfig, build_model, family_modules, hf_modules
from tasks.release.task import STAGE as RELEASE
from tasks.train.task import STAGE as TRAIN
from tests.train_entry import train_config

FAMILIES = sorted(
    path.parent.name for path in Path(next(iter(lm.models.__path__))).glob("*/model.py")
)
SIZES = {"num_layers": 1, "hidden_size": 16, "num_heads": 2, "train_tokens": 100}


def test_every_package_of_a_family_has_its_line() -> None:
    union = typing.get_args(ModelConfig)[0]
    sections = [typing.get_args(member)[0] for member in typing.get_args(union)]
    assert sorted(section.__module__ for section in sections) == [
        f"lm.models.{name}.config" for name in FAMILIES
    ]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_trains_what_its_section_describes(name: str) -> None:
    config = train_config(name="x", architecture=name, **SIZES)
    model = build_model(config.model.resolve(50))
    assert isinstance(model, CausalLM)
    assert model.config.architecture == config.model.architecture == name
    matrices = sum(matrix.numel() for matrix, _ in model.weight_matrices())
    assert model.flops_per_token() > 6 * matrices
    assert hasattr(import_module(*hf_modules(name)), "to_hf_weights")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_stage_depends_on_the_family_that_it_uses_and_on_no_other(name: str) -> None:
    trained = module_digests((*TRAIN.modules, *family_modules(name)))
    released = module_digests((*RELEASE.modules, *hf_modules(name)))
    assert f"lm.models.{name}.model" in trained
    assert f"lm.models.{name}.hf" in released
    others = [other for other in FAMILIES if other != name]
    assert not [
        module
        for module in (*trained, *released)
        if module.split(".")[2:3] in [[o] for o in others]
    ]


@pytest.mark.parametrize(
    ("architecture", "field"), [("llama", {"bias": True}), ("gpt2", {"num_kv_heads": 1})]
)
def test_a_setting_of_another_family_is_refused(architecture: str, field: dict[str, int]) -> None:
    with pytest.raises(ValidationError) as error:
        train_config(name="x", architecture=architecture, **SIZES, **field)
    (fault,) = error.value.errors()
    assert fault["type"] == "extra_forbidden"
    assert fault["loc"] == ("model", architecture, *field)
