"""prefect.yaml, validated strictly: Prefect itself accepts a misspelled key silently."""

from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.recipe import Recipe

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
FILE = ROOT / "prefect.yaml"


class StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Pool(StrictModel):
    name: str
    work_queue_name: str
    job_variables: dict[str, Any]


class Limit(StrictModel):
    limit: int = Field(ge=1)
    collision_strategy: Literal["ENQUEUE", "CANCEL_NEW"]


class Schedule(StrictModel):
    slug: str
    cron: str
    timezone: str
    active: bool


class Deployment(StrictModel):
    name: str
    description: str
    entrypoint: str
    tags: list[str]
    parameters: dict[str, Any]
    enforce_parameter_schema: Literal[True]
    schedules: list[Schedule]
    concurrency_limit: Limit
    work_pool: Pool


class File(StrictModel):
    name: Literal["gristmill"]
    prefect_version: str = Field(alias="prefect-version")
    definitions: dict[str, Any]
    deployments: list[Deployment]


def read() -> File:
    return File.model_validate(yaml.safe_load(FILE.read_text()))


def test_the_file_has_no_unknown_key() -> None:
    file = read()
    used = {deployment.work_pool.name for deployment in file.deployments}
    assert used == {"gristmill"}
    assert any(deployment.schedules for deployment in file.deployments)
    typo = yaml.safe_load(FILE.read_text())
    typo["deployments"][0]["entrypiont"] = "x"
    with pytest.raises(ValidationError, match="entrypiont"):
        File.model_validate(typo)


def test_entry_points_load_and_accept_the_parameters() -> None:
    from prefect.flows import load_flow_from_entrypoint

    names = set()
    for deployment in read().deployments:
        path, _, function = deployment.entrypoint.partition(":")
        flow: Any = load_flow_from_entrypoint(f"{ROOT / path}:{function}")
        names.add(f"{flow.name}/{deployment.name}")
        validated = flow.validate_parameters(deployment.parameters)
        assert isinstance(validated["recipe"], Recipe)
    assert len(names) == len(read().deployments), "a deployment's full name is unique"


def test_crons_and_time_zones_parse() -> None:
    from prefect.client.schemas.schedules import CronSchedule

    for deployment in read().deployments:
        for schedule in deployment.schedules:
            CronSchedule(cron=schedule.cron, timezone=schedule.timezone)
