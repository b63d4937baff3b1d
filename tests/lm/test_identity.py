"""A run does not resume from a checkpoint if a setting that changes the weights differs."""

from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pytest

from infra.config import ConfigModel
from infra.dataset.dataset import Dataset
from infra.store.storage import Storage
from lm.checkpoint.marker import Checkpoint, CheckpointMismatchError
from lm.config.run import RunConfig
from lm.config.train import TrainConfig
from lm.launch.work_folder import work_folder
from tasks.train import task
from tests.lm.corpora import context, tiny, token_shards
from tests.train_entry import SECTIONS, replace_fields

CONFIG = tiny(
    mixture={"books": 1.0, "site": 1.0}, early_stopping_patience=3, ffn_size=64, ema_decay=0.9
)
# The fields that change no weight, listed here again on purpose: a field becomes free only if both
# lists say so. Free are a run's checkpoints and logs, its caches, and how its work is distributed.
DISTRIBUTION = {
    "num_processes",
    "micro_batch_size",
    "threads_per_process",
    "device",
    "compile",
    "data_parallel",
    "activation_checkpointing",
}
FREE = (
    ({*RunConfig.model_fields} - {"precision", "deterministic"})
    | {"shard_cache_bytes"}
    | DISTRIBUTION
)
# With early stopping, the validation interval decides at which step training ends.
MODELS: tuple[dict[str, Any], ...] = (
    {},
    {"architecture": "gpt2", "num_kv_heads": None},
    {"family": "cnn", "num_heads": None, "num_kv_heads": None},
    {"family": "rnn", "num_heads": None, "num_kv_heads": None},
    {"family": "encoder", "architecture": "bert", "num_kv_heads": None},
    {"family": "seq2seq", "num_kv_heads": None},
)
BOUND = [name for name in SECTIONS if name not in FREE | {"architecture"}] + [
    "init_from",
    "validation_interval",
]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return token_shards(tmp_path_factory.mktemp("store"))


def config_with(name: str) -> TrainConfig:
    """The first of these models that has a field."""
    if SECTIONS.get(name) != "model":
        return CONFIG
    configs = (replace_fields(tiny(**changes), name=CONFIG.name) for changes in MODELS)
    return next(each for each in configs if name in type(each.model).model_fields)


def other(config: TrainConfig, name: str) -> Any:
    """Another value of a field than the configuration has, of its type."""
    section = getattr(config, SECTIONS[name]) if name in SECTIONS else config
    value, kind = getattr(section, name), type(section).model_fields[name].annotation
    kinds = [each for each in get_args(kind) or (kind,) if each is not NoneType]
    if get_origin(kind) is Literal:
        return next(each for each in get_args(kind) if each != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 2 or 1
    if isinstance(value, tuple):
        return tuple(each / 2 for each in value)
    if isinstance(value, dict):
        return dict.fromkeys(value, 2.0) | {"books": 1.0}
    if issubclass(kinds[0], ConfigModel):
        return kinds[0].model_validate({})
    return {int: 7, float: 7.0, str: "other"}[kinds[0]]


@pytest.mark.parametrize("name", BOUND)
def test_another_value_that_changes_weights_trains_again(tokens: Dataset, name: str) -> None:
    config = config_with(name)
    changed = replace_fields(config, **{name: other(config, name)})
    ctx = context("memory://models")
    specs = [task.spec(ctx, config=each, tokens=tokens) for each in (config, changed)]
    assert specs[0].fingerprint != specs[1].fingerprint
    assert work_folder(specs[0]) != work_folder(specs[1])
    before, after = (task.compatibility_key(spec, tokens) for spec in specs)
    checkpoint = Checkpoint(Storage("memory://run"), 5, 1, before, {})
    hint = "other initial weights" if name == "init_from" else "another configuration"
    with pytest.raises(CheckpointMismatchError, match=rf"{hint}: .*\b{name} = "):
        checkpoint.require_compatible(after)


def test_another_architecture_trains_again(tokens: Dataset) -> None:
    changed = CONFIG.model_copy(
        update={"model": tiny(architecture="gpt2", num_kv_heads=None).model}
    )
    ctx = context("memory://models")
    specs = [task.spec(ctx, config=each, tokens=tokens) for each in (CONFIG, changed)]
    assert specs[0].fingerprint != specs[1].fingerprint
    assert work_folder(specs[0]) != work_folder(specs[1])
    assert specs[0].stage.code_version != specs[1].stage.code_version


def test_other_tokens_and_another_seed_train_again(tokens: Dataset, tmp_path: Path) -> None:
    fewer, ctx = token_shards(tmp_path, 28), context("memory://models")
    spec, other = (task.spec(ctx, config=CONFIG, tokens=each) for each in (tokens, fewer))
    assert work_folder(spec) != work_folder(other)
    checkpoint = Checkpoint(Storage("memory://run"), 5, 1, task.compatibility_key(spec, tokens), {})
    with pytest.raises(CheckpointMismatchError, match="shards"):
        checkpoint.require_compatible(task.compatibility_key(other, fewer))
    reseeded = task.spec(replace(ctx, seed=7), config=CONFIG, tokens=tokens)
    assert work_folder(spec) != work_folder(reseeded)
    with pytest.raises(CheckpointMismatchError, match="seed = 1337"):
        checkpoint.require_compatible(task.compatibility_key(reseeded, tokens))


def test_the_seed_of_an_entry_stands_for_the_recipes(tokens: Dataset, tmp_path: Path) -> None:
    seven = replace(context(tmp_path), seed=7)
    own = CONFIG.model_copy(update={"seed": 7})
    assert task.spec(context(tmp_path), config=own, tokens=tokens).fingerprint == (
        task.spec(seven, config=CONFIG, tokens=tokens).fingerprint
    )
    seeds = [model.seed for model in CONFIG.model_copy(update={"seeds": (7, 8)}).expand()]
    assert seeds == [7, 8]


@pytest.mark.parametrize("name", sorted(DISTRIBUTION))
def test_a_run_resumes_if_its_work_is_distributed_in_another_way(
    tokens: Dataset, name: str
) -> None:
    changed = replace_fields(CONFIG, **{name: other(CONFIG, name)})
    ctx = context("memory://models")
    specs = [task.spec(ctx, config=each, tokens=tokens) for each in (CONFIG, changed)]
    assert work_folder(specs[0]) == work_folder(specs[1])
    before, after = (task.compatibility_key(spec, tokens) for spec in specs)
    Checkpoint(Storage("memory://run"), 5, 1, before, {}).require_compatible(after)
