"""A released folder as the base of a fine-tuned model."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from infra.dataset.dataset import Dataset
from infra.dataset.model_folder import model_folder
from infra.errors import UserError
from tasks.finetune import task as finetune_task
from tasks.finetune.base import open_base
from tests.finetune.planted_tasks import planted
from tests.finetune.tiny_runs import ENCODER, TinyStore, entry, variant, write_jsonl


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TinyStore:
    return TinyStore(tmp_path_factory.mktemp("released"))


@pytest.fixture
def base(store: TinyStore, in_process: None) -> Dataset:
    return store.base(**ENCODER)


@pytest.fixture
def folder(store: TinyStore, base: Dataset, tmp_path: Path) -> Path:
    """A copy of the base's release."""
    return Path(shutil.copytree(model_folder(store.release(base)), tmp_path / "model"))


def item_of(folder: Path, data: Path, **changes: Any) -> Any:
    return entry("classification", data, base=str(folder), **changes)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows, _ = planted("classification", 60)
    return write_jsonl(tmp_path / "data.jsonl", rows)


def spec_of(store: TinyStore, item: Any, examples: Dataset) -> Any:
    return finetune_task.spec(
        store.context, variant=variant(item), examples=examples, model=None, tokens=None
    )


def test_training_starts_from_the_weights_of_the_folder(
    store: TinyStore, base: Dataset, folder: Path, data: Path, tmp_path: Path
) -> None:
    item = item_of(folder, data, optim__epochs=1)
    examples = store.prepare(item)
    arguments: dict[str, Any] = {
        "variant": variant(item), "examples": examples, "model": None, "tokens": None,
    }  # fmt: skip
    spec = finetune_task.spec(store.context, **arguments)
    tuned = finetune_task.build(store.context, spec, **arguments)
    assert tuned.stats["from_folder"]
    # The same as from the model in the store.
    named = entry("classification", data, optim__epochs=1)
    other = store.finetune(variant(named), examples, base)
    assert other.stats["loss"] == tuned.stats["loss"]
    assert tuned.read("model.safetensors") == other.read("model.safetensors")
    # Wherever the folder lies: the same model.
    moved = Path(shutil.copytree(folder, tmp_path / "moved"))
    assert spec_of(store, item_of(moved, data, optim__epochs=1), examples) == spec
    # Its release needs nothing of the recipe's corpus, and its card says where the base's data is stated.
    export = store.release(tuned, tokens=None)
    assert "own card" in export.read("README.md").decode()


def test_other_weights_are_another_model(store: TinyStore, folder: Path, data: Path) -> None:
    item = item_of(folder, data)
    examples = store.prepare(item)
    before = spec_of(store, item, examples)
    weights = load_file(folder / "model.safetensors")
    name = next(iter(weights))
    save_file({**weights, name: weights[name] + 1}, folder / "model.safetensors", {"format": "pt"})
    after = spec_of(store, item, examples)
    assert after.fingerprint != before.fingerprint
    # Not while a run is under way.
    stale = replace(open_base(item, None, None), weights_sha256="0" * 64)
    with pytest.raises(UserError):
        stale.write_weights(folder / "copy.safetensors")
    with pytest.raises(UserError):
        finetune_task.build(
            store.context, before, variant=variant(item), examples=examples, model=None, tokens=None
        )


def test_a_folder_that_is_no_base_is_named(folder: Path, data: Path) -> None:
    def error(item: Any) -> str:
        with pytest.raises(UserError) as caught:
            open_base(item, None, None)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "finetune.task.base" in error(item_of(folder / "nowhere", data))
    assert "finetune.task.base" in error(
        entry("chat", data, base=str(folder))
    )  # an encoder does not chat
    assert "finetune.task.model.max_length" in error(item_of(folder, data, model__max_length=4096))
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps({"model_type": config["model_type"]}))
    assert "finetune.task.base" in error(item_of(folder, data))
    (folder / "model.safetensors").unlink()
    assert "finetune.task.base" in error(item_of(folder, data))
