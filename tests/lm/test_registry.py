"""Families of models: each has its own settings, its own code, and a line of the registry."""

import typing
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import lm.models
from infra.dataset.code_version import module_digests
from lm.config.train import TrainConfig
from lm.models.model_kind import VECTORS, HFModelKind
from lm.models.neural_lm import NeuralLM
from lm.models.registry import (
    AnyEntry,
    build_model,
    counting_modules,
    family_modules,
    hf_modules,
    load_counting,
    parse_entry,
    trained_package,
)
from lm.scoring.load import LOADERS
from tasks.release.task import STAGE as RELEASE
from tasks.train.task import STAGE as TRAIN
from tests.train_entry import train_config

FOLDER = Path(next(iter(lm.models.__path__)))
FAMILIES = sorted(
    path.parent.name
    for path in FOLDER.glob("*/config.py")
    if "family: Literal" in path.read_text(encoding="utf-8")
)
SIZES = {"num_layers": 1, "hidden_size": 16, "train_tokens": 100}
PACKAGES: dict[str, dict[str, Any]] = {
    "llama": {"num_heads": 2},
    "gpt2": {"architecture": "gpt2", "num_heads": 2},
    "bert": {"family": "encoder", "architecture": "bert", "num_heads": 2},
    "modernbert": {"family": "encoder", "num_heads": 2},
    "t5": {"family": "seq2seq", "num_heads": 2},
    "seq2seq.gru": {"family": "seq2seq", "architecture": "gru"},
    **{name: {"family": name} for name in FAMILIES if (FOLDER / name / "hf.py").exists()},
}
COUNTED = [name for name in FAMILIES if (FOLDER / name / "train.py").exists()]


def entry(package: str, **changes: Any) -> TrainConfig:
    return train_config(name="x", **SIZES, **PACKAGES[package], **changes)


def test_every_package_of_a_family_has_its_line() -> None:
    union = typing.get_args(AnyEntry)[0]
    entries = [typing.get_args(member)[0] for member in typing.get_args(union)]
    assert sorted(entry.__module__ for entry in entries) == [
        f"lm.models.{name}.config" for name in FAMILIES
    ]


@pytest.mark.parametrize("name", PACKAGES)
def test_a_family_trains_what_its_section_describes(name: str) -> None:
    config = entry(name)
    model = build_model(config.model.resolve(50))
    assert isinstance(model, NeuralLM)
    assert model.config.architecture == config.package == name
    assert trained_package(config.weights_key()) == name
    matrices = sum(matrix.numel() for matrix, _ in model.weight_matrices())
    # A model that restores text reads some tokens once, and predicts some.
    predicted = {"encoder": 0.15, "seq2seq": 0.15}.get(config.family, 1.0)
    read = 0.5 if config.family == "seq2seq" else 1.0
    assert model.flops_per_token() >= 6 * (read * matrices + predicted * model.head.weight.numel())
    assert hasattr(import_module(*hf_modules(name)), "to_hf_weights")


@pytest.mark.parametrize("name", PACKAGES)
def test_a_stage_depends_on_the_family_that_it_uses_and_on_no_other(name: str) -> None:
    trained = module_digests((*TRAIN.modules, *family_modules(name)))
    released = module_digests((*RELEASE.modules, *hf_modules(name)))
    own, exported = family_modules(name)[1], hf_modules(name)[0]
    assert own in trained
    assert exported in released
    others = {family_modules(other)[1].rpartition(".")[0] for other in PACKAGES if other != name}
    assert not [module for module in (*trained, *released) if module.rpartition(".")[0] in others]


@pytest.mark.parametrize("name", COUNTED)
def test_a_family_that_is_counted_depends_on_itself_and_on_no_training_loop(name: str) -> None:
    trained = module_digests(load_counting(name, "train").STAGE.modules)
    released = module_digests((*RELEASE.modules, *counting_modules(name, "export")))
    assert f"lm.models.{name}.model" in trained
    assert f"lm.models.{name}.export" in released
    assert not [module for module in trained if module.startswith(("lm.train", "lm.optim"))]
    assert not [module for module in module_digests(TRAIN.modules) if f".{name}." in module]


@pytest.mark.parametrize("name", [*PACKAGES, *COUNTED])
def test_evaluation_knows_the_kind_of_every_family(name: str) -> None:
    [module] = counting_modules(name, "export") if name in COUNTED else hf_modules(name)
    kind = import_module(module).KIND
    assert (kind.name in LOADERS) != (kind == VECTORS)
    assert isinstance(kind, HFModelKind) == (name in PACKAGES)


@pytest.mark.parametrize(
    ("package", "field", "where"),
    [
        ("llama", {"bias": True}, ("decoder", "model", "llama")),
        ("gpt2", {"num_kv_heads": 1}, ("decoder", "model", "gpt2")),
        ("lstm", {"num_heads": 1}, ("lstm", "model")),
        ("llama", {"family": "transformer"}, ()),
    ],
)
def test_a_setting_of_another_family_is_refused(
    package: str, field: dict[str, Any], where: tuple[str, ...]
) -> None:
    with pytest.raises(ValidationError) as error:
        entry(package, **field)
    (fault,) = error.value.errors()
    assert fault["type"] == ("extra_forbidden" if where else "union_tag_invalid")
    assert fault["loc"] == ((*where, *field) if where else ())


@pytest.mark.parametrize("package", ["bert", "t5"])
def test_goldfish_is_refused_for_a_family_that_predicts_no_next_token(package: str) -> None:
    with pytest.raises(ValidationError, match=r"data\.goldfish"):
        entry(package, goldfish={"k": 4})


def test_a_decoder_has_the_name_that_it_had_before_there_were_other_families() -> None:
    """Else every trained decoder would be trained again."""
    key = entry("llama").weights_key()
    assert sorted(key) == ["data", "init_from", "model", "optim", "run"]
    assert key["model"] == {
        "architecture": "llama",
        "context_length": 256,
        "ffn_size": None,
        "hidden_size": 16,
        "num_heads": 2,
        "num_kv_heads": None,
        "num_layers": 1,
        "tie_embeddings": True,
    }
    assert parse_entry({**entry("llama").to_json(), "family": "decoder"}) == entry("llama")
    assert entry("lstm").weights_key()["family"] == "lstm"
