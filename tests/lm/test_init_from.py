"""Training that starts from the weights of another model, in this process."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load

from flows.dag import Bind, build_pipeline
from flows.recipe import Recipe
from infra.dataset.dataset import Dataset
from infra.dataset.stage import commit_files
from infra.dataset.step import Step
from infra.errors import UserError
from infra.store.cache_dir import ENV_VAR
from infra.store.storage import Storage
from lm.checkpoint import marker
from lm.checkpoint.marker import CheckpointMismatchError
from lm.config.loop import RunsOnThisMachine
from lm.config.train import TrainConfig
from lm.launch.work_folder import work_folder
from lm.metrics.logger import read_jsonl
from lm.train.job import TrainJob
from lm.train.loop import train
from tasks.train import task
from tests.lm.corpora import context, tiny, token_shards
from tests.train_entry import replace_fields, train_entry

BASE = tiny(name="wide")
STAGE = tiny(name="late", init_from="wide", optimizer="adamw", lr=0.001, global_batch_size=4)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return token_shards(tmp_path_factory.mktemp("store"))


@pytest.fixture
def in_cache(in_process: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in this process, with the cache in a temporary folder."""
    monkeypatch.setenv(ENV_VAR, str(tmp_path / "cache"))


def build(root: Path, config: TrainConfig, tokens: Dataset, base: Dataset | None = None) -> Dataset:
    ctx = context(root)
    spec = task.spec(ctx, config=config, tokens=tokens, base_model=base)
    return task.build(ctx, spec, config=config, tokens=tokens, base_model=base)


def weights(model: Dataset) -> dict[str, torch.Tensor]:
    return load(model.read("model.safetensors"))


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.usefixtures("in_cache")
def test_a_stage_starts_with_the_weights_of_its_base_and_nothing_else(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = build(tmp_path, BASE, tokens)
    model = build(tmp_path, STAGE, tokens, base)
    assert not equal(weights(model), weights(base))
    assert model.stats["init_from"] == "wide"
    assert [item["source"] for item in model.manifest.inputs] == [None, "wide"]
    lines = [json.loads(line) for line in model.read("logs/metrics.jsonl").splitlines()]
    assert (lines[0]["step"], lines[0]["tokens"]) == (1, 64)
    assert lines[0]["loss"] < 3 < base.stats["loss"] + 1  # random weights have 5.7
    # Without updates, a stage has the weights that it starts with.
    monkeypatch.setattr("lm.train.loop.learning_rate", lambda *_: 0.0)
    frozen = replace_fields(STAGE, name="frozen")
    assert equal(weights(build(tmp_path, frozen, tokens, base)), weights(base))


@pytest.mark.usefixtures("in_cache")
def test_a_stage_resumes_after_a_crash_bit_for_bit(tokens: Dataset, tmp_path: Path) -> None:
    base = build(tmp_path, BASE, tokens)
    folder = tmp_path / "run"
    job = TrainJob(STAGE, 1337, tokens.storage, folder, {"init_from": base.content}, base.storage)
    expected, _ = train(job)
    lines = read_jsonl(folder / "metrics.jsonl")
    checkpoints = marker.list_complete(Storage(str(folder / "checkpoints")))
    assert [item.step for item in checkpoints] == [STAGE.steps - 5, STAGE.steps]
    checkpoints[-1].storage.remove(marker.MARKER)
    again, _ = train(job)
    assert equal(dict(expected), dict(again))
    resumed = read_jsonl(folder / "metrics.jsonl")
    assert [line["loss"] for line in resumed] == [line["loss"] for line in lines]
    assert read_jsonl(folder / "attempts.jsonl")[-1]["step"] == STAGE.steps - 5
    with pytest.raises(CheckpointMismatchError, match="init_from"):
        train(TrainJob(STAGE, 1337, tokens.storage, folder, {"init_from": "others"}, base.storage))


@pytest.mark.usefixtures("in_cache")
def test_a_changed_base_makes_another_stage(tokens: Dataset, tmp_path: Path) -> None:
    ctx = context(tmp_path)
    one = build(tmp_path, BASE, tokens)
    other = build(tmp_path, replace_fields(BASE, lr=0.02), tokens)
    specs = [task.spec(ctx, config=STAGE, tokens=tokens, base_model=base) for base in (one, other)]
    assert specs[0].fingerprint != specs[1].fingerprint
    assert work_folder(specs[0]) != work_folder(specs[1])
    keys = [task.compatibility_key(s, tokens, b) for s, b in zip(specs, (one, other), strict=True)]
    assert keys[0]["init_from"] == one.content != keys[1]["init_from"]


@pytest.mark.usefixtures("in_cache")
def test_weights_that_do_not_fit_are_refused_by_field(tokens: Dataset, tmp_path: Path) -> None:
    base = build(tmp_path, BASE, tokens)
    for field, value, other in (
        ("hidden_size", 64, 32),
        ("num_kv_heads", 4, 2),
        ("tie_embeddings", False, True),
    ):
        config = replace_fields(STAGE, **{field: value})
        with pytest.raises(
            UserError, match=rf"^train\.late\.model\.{field}: {value}, but wide, .*{other}"
        ):
            task.require_base_model(config, tokens, base)
    longer = replace_fields(STAGE, context_length=32)  # no parameter depends on it
    task.require_base_model(longer, tokens, base)
    with pytest.raises(UserError, match=r"^train\.late\.init_from: the model wide is not given"):
        task.require_base_model(STAGE, tokens, None)
    file = tmp_path / "tokenizer.json"
    file.write_text("{}")
    spec = task.spec(context(tmp_path), config=tiny(name="odd"), tokens=tokens)
    odd = commit_files(context(tmp_path), spec, {file.name: file}, counts=tokens.counts, stats={})
    with pytest.raises(UserError, match=r"^train\.late\.init_from: odd .* another tokenizer"):
        task.require_base_model(STAGE, tokens, odd)


def entry(name: str, **changes: Any) -> dict[str, Any]:
    fields = {"num_layers": 1, "hidden_size": 32, "num_heads": 2, "train_tokens": 100}
    return train_entry(name=name, **fields | changes)


def recipe(*entries: dict[str, Any]) -> Recipe:
    source = {"name": "a", "kind": "documents", "paths": ["x.jsonl"]}
    return Recipe.model_validate({"name": "r", "sources": [source], "train": entries})


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([entry("a", init_from="b")], r"train\.a\.init_from: 'b' .* none"),
        ([entry("a", init_from="a")], r"train\.a\.init_from: 'a' "),
        (
            [entry("c"), entry("a", init_from="b"), entry("b")],
            r"train\.a\.init_from: 'b' .* c",
        ),
        (
            [entry("a"), entry("b", init_from="a", hidden_size=64)],
            r"train\.b\.model\.hidden_size: 64, but a, .* 32",
        ),
        (
            [
                entry("a", architecture="gpt2"),
                entry("b", architecture="gpt2", init_from="a", context_length=64),
            ],
            r"train\.b\.model\.context_length: 64, but a, .* 256",
        ),
    ],
)
def test_a_recipe_says_which_field_is_wrong(entries: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipe(*entries)


def test_the_road_leads_from_the_base_to_its_stages() -> None:
    trained: list[tuple[str | None, list[str]]] = []

    def record_step(
        step: Step[...],
        inputs: Sequence[str],
        bind: Bind[str],
        *,
        source: str | None = None,
        entry: str | None = None,
        training: RunsOnThisMachine | None = None,
    ) -> str:
        if step.makes_model:
            trained.append((entry, list(inputs)))
        return f"{step.name} {entry}"

    stages = entry("b", init_from="a"), entry("c", init_from="b"), entry("d")
    build_pipeline(record_step, recipe(entry("a"), *stages))
    assert trained == [
        ("a", ["tokenize None"]),
        ("b", ["tokenize None", "train a"]),
        ("c", ["tokenize None", "train b"]),
        ("d", ["tokenize None"]),
    ]
