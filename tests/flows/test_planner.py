"""Plans: what exists, what would be made, and why."""

from pathlib import Path
from typing import Any

from flows.planner import PlannedStep, plan_pipeline
from flows.recipe import Recipe
from infra.removals.log import append_removals
from infra.removals.match import parse_removal
from infra.store.storage import Storage
from tests.e2e.corpora import recipe, write_jsonl
from tests.inline import go


def plan(value: dict[str, Any], until: str = "annotate") -> list[PlannedStep]:
    return plan_pipeline(Recipe.model_validate(value), until).steps


def test_a_plan_explains_each_step(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["The miller ground the corn."])
    value = recipe(tmp_path / "data", tmp_path)
    value["sources"][0]["paths"] = [f"{tmp_path}/*.jsonl"]
    acquire, annotate = plan(value)
    assert (acquire.dataset, acquire.why) == (None, "never made")
    assert (annotate.folder, annotate.why) == (None, "after acquire dump")

    (result,) = go(value, until="acquire")
    acquire, annotate = plan(value)
    assert (acquire.folder, acquire.why) == (result.folder, "committed")
    assert acquire.dataset is not None
    assert annotate.folder is not None
    assert (annotate.dataset, annotate.why) == (None, "never made")

    write_jsonl(tmp_path / "b.jsonl", ["Another document."])
    assert plan(value)[0].why == "input changed"
    (tmp_path / "b.jsonl").unlink()
    value["sources"][0]["max_row_bytes"] = 1_000_000
    assert plan(value)[0].why.startswith("configuration changed (")


def test_a_removal_does_not_acquire_a_source_again(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", ["The miller ground the corn."])
    value = recipe(tmp_path / "data", tmp_path)
    value["sources"][0]["paths"] = [f"{tmp_path}/*.jsonl"]
    go(value, until="acquire")
    append_removals(
        Storage(value["storage"]), value["name"], [parse_removal("domain", "example.org")]
    )
    assert plan(value)[0].why == "committed"
