"""Variants of a recipe: what each is, which are refused, and that removals reach them."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from flows.ablation import share_removals
from flows.recipe import Recipe
from infra.removals.log import append_removals, append_restorations, load_removals
from infra.removals.match import parse_removal
from infra.store.storage import Storage
from tests.train_entry import train_entry


def raw(**ablate: Any) -> dict[str, Any]:
    shape = {"num_layers": 1, "hidden_size": 16, "num_heads": 1, "train_tokens": 1000}
    return {
        "name": "mill",
        "sources": [{"name": "dump", "kind": "documents", "paths": ["a.jsonl"]}],
        "train": [
            train_entry(name="base", **shape),
            train_entry(name="tiny", init_from="base", seed=5, **shape),
            train_entry(name="other", **shape),
            {"name": "counts", "family": "ngram"},
        ],
        "evaluate": {},
        "schedule": {"pipeline": "0 2 * * *"},
        "ablate": {"model": "tiny", "seeds": [1, 2], "variants": [variant()], **ablate},
    }


def variant(
    path: str = "select.quality_filters", value: Any = (), name: str = "unfiltered"
) -> dict[str, Any]:
    return {"name": name, "set": {path: value}}


def test_a_variant_is_the_recipe_with_its_changes_and_one_model_with_all_seeds() -> None:
    recipe = Recipe.model_validate(raw())
    variants = recipe.variants
    assert [item.name for item in variants.values()] == ["mill.baseline", "mill.unfiltered"]
    assert recipe.run_names == ("mill", "mill.baseline", "mill.unfiltered")
    for item in variants.values():
        assert [model.name for model in item.models] == ["base", "tiny-seed1", "tiny-seed2"]
        assert item.evaluate == recipe.evaluate
        assert item.schedule.pipeline is None
    assert variants["baseline"].select == recipe.select
    assert variants["unfiltered"].select.quality_filters == ()
    assert variants["unfiltered"].tokenize == recipe.tokenize


def test_secrets_stay_references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "s3cr3t")
    value = raw(variants=[variant("sources.dump.paths", ["https://x/${KEY}"])])
    changed = Recipe.model_validate(value).variants["unfiltered"]
    assert changed.sources[0].to_json()["paths"] == ["https://x/s3cr3t"]
    assert "s3cr3t" not in str(changed.to_record())
    assert "s3cr3t" not in str(Recipe.model_validate(value).to_record())


@pytest.mark.parametrize(
    ("ablate", "words"),
    [
        ({"model": "big"}, ["ablate.model", "big"]),
        ({"model": "counts"}, ["ablate.model", "ngram"]),
        ({"seeds": [1, 1]}, ["seed is given twice"]),
        ({"seeds": [1]}, ["at least 2"]),
        ({"variants": [variant(name="a"), variant(name="a")]}, ["'a'"]),
        ({"variants": [variant(name="baseline")]}, ["baseline"]),
        ({"variants": [variant("seed", 3)]}, ["set: seed: seed is the same"]),
        ({"variants": [variant("evaluate.max_tokens", 3)]}, ["evaluate.max_tokens"]),
        ({"variants": [variant("select.filters", [])]}, ["unfiltered.set: select.filters: unknown key"]),
        ({"variants": [variant("sources.site.license", "x")]}, ["unfiltered.set", "no entry site"]),
        ({"variants": [variant("select.pii.x", 1)]}, ["unfiltered.set: select.pii"]),
    ],
)  # fmt: skip
def test_a_wrong_ablation_is_refused_with_its_field(
    ablate: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ValidationError) as refused:
        Recipe.model_validate(raw(**ablate))
    assert [word for word in words if word not in str(refused.value)] == []


def test_an_ablation_needs_an_evaluation() -> None:
    with pytest.raises(ValidationError, match="ablate needs the section evaluate"):
        Recipe.model_validate({**raw(), "evaluate": None})


def test_a_variant_has_the_removals_of_its_recipe(tmp_path: Path) -> None:
    store = Storage(str(tmp_path))
    one, two = (parse_removal("domain", f"{name}.example.org") for name in ("one", "two"))
    append_removals(store, "mill", [one])
    append_removals(store, "mill.x", [two])
    share_removals(store, "mill", "mill.x")
    assert load_removals(store, "mill.x") == (one,)
    append_restorations(store, "mill", [one])
    share_removals(store, "mill", "mill.x")
    assert load_removals(store, "mill.x") == ()
