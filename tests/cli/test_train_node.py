"""``gristmill train-node`` joins the run of the first machine, whatever this machine's clock says."""

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from cli import train_node
from cli.main import main
from flows.planner import PlannedStep, plan_pipeline
from flows.recipe import Recipe
from infra.compute.lease import RunLease
from infra.runs.run_records import new_run_id, run_start
from infra.store.storage import Storage
from tests.e2e.command import write_recipe
from tests.train_entry import train_entry

BEFORE = datetime(2026, 3, 1, 10, 59, 58, 999_999, tzinfo=UTC)
AFTER = datetime(2026, 3, 1, 11, 0, 1, tzinfo=UTC)


@pytest.fixture
def value(tmp_path: Path) -> dict[str, Any]:
    source = {"name": "site", "kind": "web", "start_urls": ["http://127.0.0.1:9/"]}
    model = train_entry(
        precision="fp32",
        name="large",
        num_layers=1,
        hidden_size=32,
        num_heads=2,
        train_tokens=100,
        num_nodes=2,
        num_processes=2,
        rendezvous="127.0.0.1:29400",
        checkpoint_url=str(tmp_path / "running"),
    )
    return {
        "name": "r",
        "storage": str(tmp_path / "data"),
        "sources": [source | {"recrawl": "hourly"}],
        "train": [model],
    }


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders of the models that the command asked to train; each is trained at once."""
    folders: list[str] = []

    def plan(recipe: Recipe, _: str, start: datetime | None) -> Any:
        acquire = plan_pipeline(recipe, "acquire", start).steps[0]
        folder = f"train/large-{str(acquire.folder).rpartition('-')[2]}"
        return SimpleNamespace(steps=[PlannedStep("train", None, "large", folder, None, "never")])

    def run_node(_: Any, rendezvous: Storage, **__: Any) -> bool:
        folders.append("train/" + rendezvous.url.rstrip("/").rpartition("/")[2])
        return True

    monkeypatch.setattr("flows.planner.plan_pipeline", plan)
    monkeypatch.setattr("lm.launch.node.run_node", run_node)
    return folders


def test_a_node_that_joins_after_the_hour_trains_the_model_of_the_run(
    value: dict[str, Any], tmp_path: Path, joined: list[str]
) -> None:
    recipe = Recipe.model_validate(value)
    folders = [plan_pipeline(recipe, "acquire", time).steps[0].folder for time in (BEFORE, AFTER)]
    assert len(set(folders)) == 2
    lease = RunLease(Storage(recipe.storage), "r", new_run_id(Storage(recipe.storage), BEFORE))
    try:
        words = ["train-node", str(write_recipe(tmp_path / "r.yaml", value)), "--model", "large"]
        result = CliRunner().invoke(main, [*words, "--json"])
    finally:
        lease.close(completed=True)
    assert result.exit_code == 0, result.output
    assert [folder.rpartition("-")[2] for folder in joined] == [str(folders[0]).rpartition("-")[2]]
    assert json.loads(result.stdout)["path"].endswith(joined[0])


def test_the_run_of_the_first_machine_is_the_newest_that_has_not_ended(
    value: dict[str, Any],
) -> None:
    recipe = Recipe.model_validate(value)
    storage = Storage(recipe.storage)
    assert train_node._first_machine_start(recipe, storage) is None
    ended, other = (
        RunLease(storage, "r", new_run_id(storage, AFTER)),
        RunLease(storage, "other", "x"),
    )
    ended.close(completed=False)
    lease = RunLease(storage, "r", new_run_id(storage, BEFORE))
    try:
        assert train_node._first_machine_start(recipe, storage) == BEFORE.replace(microsecond=0)
    finally:
        lease.close(completed=True)
        other.close(completed=True)
    assert train_node._first_machine_start(recipe, storage) is None


def test_a_run_id_holds_the_second_of_its_start(tmp_path: Path) -> None:
    assert run_start(new_run_id(Storage(str(tmp_path)), BEFORE)) == BEFORE.replace(microsecond=0)
