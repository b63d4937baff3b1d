"""prefect.yaml, validated strictly: Prefect itself accepts a misspelled key silently."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.flows import load_flow_from_entrypoint
from pydantic import ValidationError

from flows.deployments import PrefectFile, load_prefect_file, recipe_deployments
from flows.recipe import Recipe
from flows.schedule_config import ScheduleConfig
from tests.processes import ROOT

FILE = ROOT / "prefect.yaml"


def test_the_file_of_the_package_is_that_of_the_repository() -> None:
    assert (ROOT / "flows" / "prefect.yaml").resolve() == FILE


@pytest.mark.parametrize(
    ("path", "key"),
    [
        (("deployments", 0), "entrypiont"),
        (("deployments", 0, "concurrency_limit"), "colision_strategy"),
        (("definitions", "pools", "docker"), "nmae"),
        ((), "deployment"),
    ],
)
def test_an_unknown_key_is_an_error(path: tuple[Any, ...], key: str) -> None:
    value = yaml.safe_load(FILE.read_text())
    PrefectFile.model_validate(value)
    section = value
    for step in path:
        section = section[step]
    section[key] = "x"
    with pytest.raises(ValidationError) as error:
        PrefectFile.model_validate(value)
    assert {item["loc"][-1] for item in error.value.errors()} == {key}


def test_entry_points_load_and_accept_the_parameters() -> None:
    file = load_prefect_file()
    names = {deployment.name for deployment in file.deployments}
    assert len(names) == len(file.deployments), "no two deployments have the same name"
    for deployment in file.deployments:
        flow: Any = load_flow_from_entrypoint(deployment.entrypoint, use_placeholder_flow=False)
        assert flow.name == deployment.flow_name
        validated = flow.validate_parameters(deployment.parameters)
        assert isinstance(validated["recipe"], Recipe)
        for schedule in deployment.schedules:
            assert schedule.to_prefect().slug == schedule.slug
            flow.validate_parameters({**deployment.parameters, **schedule.parameters})
        assert deployment.description.startswith("**")


def test_every_deployment_can_have_a_schedule() -> None:
    flows = {deployment.flow_name for deployment in load_prefect_file().deployments}
    assert flows == ScheduleConfig.model_fields.keys() - {"timezone"}


def test_the_deployments_of_a_recipe_hold_it_as_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_BUCKET", str(tmp_path / "s3cret"))
    value = {
        "name": "wiki",
        "storage": "${SECRET_BUCKET}",
        "sources": [{"name": "a", "kind": "documents", "paths": ["/in/*.jsonl"]}],
        "schedule": {"refresh": "0 2 * * *", "timezone": "Europe/Berlin"},
    }
    deployments = recipe_deployments(Recipe.model_validate(value), "docker", {"image": "g:1"})
    for deployment in deployments:
        assert deployment.name == f"wiki-{deployment.flow_name}"
        assert deployment.parameters == {"recipe": value}
        assert deployment.tags == ["gristmill", "wiki"]
        assert deployment.work_pool.job_variables["image"] == "g:1"
        assert "s3cret" not in deployment.model_dump_json()
    scheduled = {d.flow_name: d.schedules[0] for d in deployments if d.schedules}
    assert scheduled.keys() == {"refresh"}
    assert (scheduled["refresh"].cron, scheduled["refresh"].active) == ("0 2 * * *", True)
    assert scheduled["refresh"].timezone == "Europe/Berlin"
