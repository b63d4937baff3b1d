"""Register the deployments of a recipe with a Prefect server, as `prefect.yaml` declares them.

The file is the template: its recipe is replaced by the given one, and the name `example` by the recipe's.
Registering the same recipe again changes nothing.
"""

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from typing import Any, Literal, TypeVar
from uuid import UUID

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import (
    DeploymentCreate,
    DeploymentScheduleCreate,
    WorkPoolCreate,
)
from prefect.client.schemas.objects import ConcurrencyOptions, DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.utilities.asyncutils import run_coro_as_sync
from prefect.workers.utilities import get_default_base_job_template_for_infrastructure_type
from pydantic import BaseModel, ConfigDict, Field

from flows.recipe import Recipe
from infra.errors import UserError

EXAMPLE = "example"  # the name of the recipe in the file, and the prefix of its deployments' names
SCHEDULED = "schedule"  # the reason of runs that a schedule creates
BUSY_STATUS = 503
BUSY_TIMEOUT_S = 300.0
MIN_DELAY_S, MAX_DELAY_S = 0.05, 0.5  # about as long as the server takes to store a deployment

PoolKind = Literal["process", "docker", "kubernetes"]
Applied = Literal["created", "updated", "unchanged"]
T = TypeVar("T")


class _Strict(BaseModel):
    """Refuses unknown keys, which Prefect accepts silently."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PoolSection(_Strict):
    """Where runs are started."""

    name: str
    work_queue_name: str
    job_variables: dict[str, Any]


class LimitSection(_Strict):
    """How many runs are active at once, and what happens to the others."""

    limit: Literal[1]
    collision_strategy: Literal["ENQUEUE", "CANCEL_NEW"]
    grace_period_seconds: int = Field(ge=60, le=3600)


class ScheduleSection(_Strict):
    """When runs are created."""

    slug: str
    cron: str
    timezone: str
    active: bool
    parameters: dict[str, Any]

    def to_prefect(self) -> DeploymentScheduleCreate:
        """Return Prefect's form of it. Raises ``ValueError`` if the expression is wrong."""
        cron = CronSchedule(cron=self.cron, timezone=self.timezone)
        return DeploymentScheduleCreate(
            schedule=cron, active=self.active, parameters=self.parameters, slug=self.slug
        )


class DeploymentSection(_Strict):
    """One deployment."""

    name: str
    description: str
    entrypoint: str
    tags: list[str]
    parameters: dict[str, Any]
    enforce_parameter_schema: Literal[True]
    schedules: list[ScheduleSection]
    concurrency_limit: LimitSection
    work_pool: PoolSection

    @property
    def flow_name(self) -> str:
        """The name of its flow, which is that of the function."""
        return self.entrypoint.rpartition(".")[2]


class Definitions(_Strict):
    """The anchors of the file."""

    environment: dict[str, str]
    pools: dict[PoolKind, PoolSection]
    enqueue: LimitSection
    cancel_new: LimitSection
    recipe: dict[str, Any]
    common: dict[str, Any]


class PrefectFile(_Strict):
    """The file `prefect.yaml`."""

    name: Literal["gristmill"]
    prefect_version: str = Field(alias="prefect-version")
    definitions: Definitions
    pull: list[Any] = Field(max_length=0)  # a step would name a folder of the host that deploys
    deployments: list[DeploymentSection]


@dataclass(frozen=True)
class Registered:
    """A deployment on the server.

    Attributes:
        flow: the name of its flow.
        name: ``flow/deployment``, as ``prefect deployment run`` takes it.
        schedule: when it runs, for a reader; ``None``: on demand and by events.
    """

    id: UUID
    flow: str
    name: str
    schedule: str | None
    applied: Applied

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "id": str(self.id),
            "flow": self.flow,
            "name": self.name,
            "schedule": self.schedule,
            "applied": self.applied,
        }


def load_prefect_file() -> PrefectFile:
    """Read the file of this package."""
    text = (files("flows") / "prefect.yaml").read_text(encoding="utf-8")
    return PrefectFile.model_validate(yaml.safe_load(text))


def recipe_deployments(
    recipe: Recipe,
    pool_kind: PoolKind = "process",
    job_variables: dict[str, Any] | None = None,
    pool: str | None = None,
) -> list[DeploymentSection]:
    """Return the deployments of a recipe.

    Args:
        recipe: becomes their parameter, as it was written: ``${NAME}`` is not expanded.
        pool_kind: what starts the runs.
        job_variables: settings of that kind, such as ``image``, besides those of the file.
        pool: the work pool's name, in place of the file's.
    """
    file = load_prefect_file()
    base = file.definitions.pools[pool_kind]
    variables = {**base.job_variables, **(job_variables or {})}
    work_pool = base.model_copy(update={"name": pool or base.name, "job_variables": variables})
    parameters = {"recipe": recipe.model_dump(mode="json", by_alias=True, exclude_unset=True)}
    return [
        item.model_copy(
            update={
                "name": recipe.name + item.name.removeprefix(EXAMPLE),
                "tags": [*item.tags, recipe.name],
                "parameters": parameters,
                "schedules": _schedules(recipe, item.flow_name),
                "work_pool": work_pool,
            }
        )
        for item in file.deployments
    ]


def _schedules(recipe: Recipe, flow: str) -> list[ScheduleSection]:
    cron = getattr(recipe.schedule, flow)
    if cron is None:
        return []
    zone, parameters = recipe.schedule.timezone, {"reason": SCHEDULED}
    return [
        ScheduleSection(slug=flow, cron=cron, timezone=zone, active=True, parameters=parameters)
    ]


def when_free(request: Callable[[], T], timeout_s: float = BUSY_TIMEOUT_S) -> T:
    """Send a request to the Prefect server again, soon, as long as another writer holds its database.

    A server on SQLite answers 503, and has done nothing, if its database was written while it handled the
    request; a worker that asks for work writes, too. Prefect's client doubles its delay each time.
    """
    end = time.monotonic() + timeout_s
    while True:
        try:
            return request()
        except PrefectHTTPStatusError as error:
            if error.response.status_code != BUSY_STATUS or time.monotonic() > end:
                raise
        time.sleep(random.uniform(MIN_DELAY_S, MAX_DELAY_S))


def ensure_pool(client: SyncPrefectClient, name: str, kind: PoolKind) -> bool:
    """Create a work pool unless it exists; return whether it was created.

    Raises:
        UserError: if a pool of this name is of another kind.
    """
    try:
        existing = client.read_work_pool(name)
    except ObjectNotFound:
        template = run_coro_as_sync(get_default_base_job_template_for_infrastructure_type(kind))
        client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template))
        return True
    if existing.type != kind:
        raise UserError(
            f"--pool {name}: this work pool is of the type {existing.type}, not {kind}; name another"
        )
    return False


def register(client: SyncPrefectClient, deployment: DeploymentSection) -> Registered:
    """Create a deployment, or update the one of this name if it differs.

    Raises:
        UserError: if the server refuses it.
    """
    flow: Flow[..., Any] = load_flow_from_entrypoint(
        deployment.entrypoint, use_placeholder_flow=False
    )
    limit = deployment.concurrency_limit
    wanted: dict[str, Any] = {
        "flow_id": when_free(lambda: client.create_flow_from_name(flow.name)),
        "name": deployment.name,
        "version": version("gristmill"),
        "description": deployment.description,
        "entrypoint": deployment.entrypoint,
        "tags": deployment.tags,
        "parameters": deployment.parameters,
        "parameter_openapi_schema": flow.parameters.model_dump_for_openapi(),
        "enforce_parameter_schema": True,
        "schedules": [schedule.to_prefect() for schedule in deployment.schedules],
        "concurrency_limit": limit.limit,
        "concurrency_options": ConcurrencyOptions.model_validate(
            limit.model_dump(exclude={"limit"})
        ),
        "work_pool_name": deployment.work_pool.name,
        "work_queue_name": deployment.work_pool.work_queue_name,
        "job_variables": deployment.work_pool.job_variables,
        "pull_steps": [],
    }
    name = f"{flow.name}/{deployment.name}"
    identity: UUID | None = None
    applied: Applied = "created"
    try:
        found = when_free(lambda: client.read_deployment_by_name(name))
    except ObjectNotFound:
        pass
    else:
        wanted["schedules"] = keep_paused(wanted["schedules"], found.schedules)
        # Storing one takes the server half a second, in which it answers nothing else.
        same = _content(found) == _content(DeploymentCreate(**wanted))
        identity, applied = (found.id, "unchanged") if same else (None, "updated")
    try:
        identity = identity or when_free(lambda: client.create_deployment(**wanted))
    except PrefectHTTPStatusError as error:
        raise UserError(f"deployment {deployment.name}: {_detail(error)}") from None
    when = [f"{item.cron} {item.timezone}" for item in deployment.schedules]
    return Registered(identity, flow.name, name, when[0] if when else None, applied)


def keep_paused(
    schedules: Sequence[DeploymentScheduleCreate], existing: Sequence[DeploymentSchedule]
) -> list[DeploymentScheduleCreate]:
    """Return the schedules, but those that somebody has paused on the server stay paused."""
    paused = {item.slug for item in existing if not item.active}
    return [
        item.model_copy(update={"active": item.active and item.slug not in paused})
        for item in schedules
    ]


def _content(deployment: DeploymentCreate | DeploymentResponse) -> dict[str, Any]:
    """Return what ``register`` decides of a deployment, as JSON values."""
    fields = {
        *("version", "description", "entrypoint", "tags", "parameters", "parameter_openapi_schema"),
        *("enforce_parameter_schema", "concurrency_options", "work_pool_name", "work_queue_name"),
        *("job_variables", "pull_steps"),
    }
    schedules = [
        item.model_dump(mode="json", include={"schedule", "active", "parameters", "slug"})
        for item in deployment.schedules
    ]
    if isinstance(deployment, DeploymentCreate):
        limit = deployment.concurrency_limit
    else:
        of_server = deployment.global_concurrency_limit
        limit = None if of_server is None else of_server.limit
    content = deployment.model_dump(mode="json", include=fields)
    return {**content, "schedules": schedules, "concurrency_limit": limit}


def _detail(error: PrefectHTTPStatusError) -> str:
    """Return why the server refused a request, in one line."""
    try:
        detail = error.response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = error.response.text
    text = detail if isinstance(detail, str) else json.dumps(detail)
    return " ".join(f"{error.response.status_code} {text}".split())
