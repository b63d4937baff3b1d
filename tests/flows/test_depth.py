"""One number for the size of a decoder."""

import re
from pathlib import Path
from typing import Any

import pytest

from flows.depth import resolved_depth
from flows.recipe import Recipe
from flows.recipe_loader import RecipeError, load_recipe
from infra.dataset.dataset import Dataset
from lm.models.decoder.depth import scaling_parameters
from lm.models.registry import build_model
from tasks.train import task
from tests.lm.corpora import context, token_shards
from tests.train_entry import in_steps

RECIPE = """
name: small
sources: [{name: dump, kind: documents, paths: [x.jsonl]}]
tokenize: {vocab_size: 4096}
train:
  - {name: d, depth: 4}
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "small.yaml"
    file.write_text(RECIPE)
    return str(file)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return token_shards(tmp_path_factory.mktemp("store"))


def resolve(path: str, *overrides: str) -> dict[str, Any]:
    return dict(resolved_depth(load_recipe(path, overrides).train[0]))


def test_the_reference_is_as_nanochat_trains_it(path: str) -> None:
    derived = resolve(path, "train.d.depth=12", "train.d.model.context_length=2048")
    assert derived["model.hidden_size"] == 768
    assert derived["model.num_heads"] == 6
    assert derived["data.train_tokens"] == 12 * (12 * 12 * 768**2 + 4096 * 768)
    assert derived["data.global_batch_size"] * 2048 == 2**19
    # Ours times 0.2 sqrt(768), the scale of its updates.
    assert derived["optim.lr"] * 0.2 * 768**0.5 == pytest.approx(0.02, rel=1e-3)


def test_everything_grows_with_the_depth(path: str) -> None:
    sizes = [resolve(path, f"train.d.depth={depth}") for depth in (1, 4, 8, 16, 24)]
    for key in ("model.num_layers", "model.hidden_size", "data.train_tokens"):
        values = [size[key] for size in sizes]
        assert values == sorted(set(values))
    batches = [size["data.global_batch_size"] for size in sizes]
    assert batches == sorted(batches)
    assert batches[0] < batches[-1]


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_parameters_that_scale_are_those_of_the_matrices(path: str, architecture: str) -> None:
    overrides = [f"train.d.model.architecture={architecture}", "train.d.model.hidden_size=64"]
    model = in_steps(load_recipe(path, [*overrides, "train.d.model.num_heads=2"]).train[0]).model
    built: Any = build_model(model.resolve(300))
    matrices = sum(matrix.numel() for matrix, _ in built.weight_matrices())
    assert scaling_parameters(built.config) == matrices + built.head.weight.numel()


def test_keys_that_are_given_win_and_what_follows_from_them_follows(path: str) -> None:
    plain = resolve(path)
    derived = resolve(path, "train.d.data.train_tokens=1000000", "train.d.optim.lr=0.5")
    assert derived["data.train_tokens"] == 1_000_000
    assert derived["optim.lr"] == 0.5
    assert derived["data.global_batch_size"] < plain["data.global_batch_size"]
    larger = resolve(path, "train.d.data.global_batch_size=8192")
    assert larger["optim.lr"] > plain["optim.lr"]
    wider = resolve(path, "train.d.model.hidden_size=512")
    assert wider["model.num_heads"] == 4
    assert wider["data.train_tokens"] > plain["data.train_tokens"]
    assert resolve(path, "train.d.model.hidden_size=400")["model.num_heads"] == 4


def test_a_model_is_that_of_the_same_entry_written_out(path: str, tokens: Dataset) -> None:
    written = [f"train.d.{key}={value}" for key, value in resolve(path).items()]
    entries = [
        in_steps(load_recipe(path, overrides).train[0])
        for overrides in ([], [*written, "train.d.depth=null"])
    ]
    assert entries[1].to_json()["depth"] is None
    fingerprints = {
        task.spec(context("memory://models"), config=entry, tokens=tokens).fingerprint
        for entry in entries
    }
    assert len(fingerprints) == 1


def test_a_deployed_recipe_holds_the_depth_and_not_what_follows(path: str) -> None:
    recipe = load_recipe(path, ["train.d.optim.weight_decay=0.2"])
    given = recipe.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert given["train"] == [{"name": "d", "depth": 4, "optim": {"weight_decay": 0.2}}]
    assert Recipe.model_validate(given) == recipe
    # The record of a run says what was trained, and is a recipe as well.
    assert recipe.to_record()["train"][0]["model"]["hidden_size"] == 256
    assert Recipe.model_validate(recipe.to_record()) == recipe


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.d.depth=0", "train.d.depth: "),
        ("train.d.depth=deep", "train.d.depth: "),
        ("train.d.model.num_layers=3", "num_layers 3 is not depth 4"),
        ("train.d.model.width=3", "width: unknown key"),
        ("train.d.data.train_tokens=many", "train.d.data.train_tokens: "),
        ("train.d.model.hidden_size=wide", "hidden_size: "),
        ("train.d.model.num_heads=5", "num_heads"),
        ("tokenize.tokenizer=/x/tokenizer.json", "train.d.depth: the vocabulary"),
        ("train.d.family=lstm", "train.d.depth: unknown key"),
    ],
)
def test_a_mistake_is_named(path: str, override: str, words: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(words)) as error:
        load_recipe(path, [override])
    if "family" not in override:
        assert len(str(error.value).splitlines()) == 1
