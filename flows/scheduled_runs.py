"""The next scheduled runs, as a Prefect server knows them."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MAX_RUNS = 5
MAX_READ = 200  # scheduled runs, of any project on the server, that are looked at
TIMEOUT_S = 5.0


@dataclass(frozen=True)
class ScheduledRun:
    """A run that the server has scheduled: of which recipe, by which deployment, when (ISO 8601)."""

    recipe: str
    deployment: str
    time: str


@dataclass(frozen=True)
class Schedule:
    """The next runs.

    Attributes:
        server: URL of the server's API; ``None`` if none is set.
        error: why it could not be asked.
        runs: the next ones, earliest first.
    """

    server: str | None = None
    error: str | None = None
    runs: Sequence[ScheduledRun] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def read_schedule(recipes: Sequence[str]) -> Schedule:
    """Ask the Prefect server for the next runs of recipes; of all recipes if none is named."""
    if not _is_server_set():  # importing Prefect takes seconds
        return Schedule()
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    if not url:
        return Schedule()
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError

    try:
        return Schedule(url, None, _read_runs(recipes))
    except (httpx.HTTPError, PrefectHTTPStatusError, RuntimeError) as error:
        return Schedule(url, str(error).splitlines()[0] if str(error) else type(error).__name__)


def _is_server_set() -> bool:
    if os.environ.get("PREFECT_API_URL") or os.environ.get("PREFECT_PROFILE"):
        return True
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    return (home / "profiles.toml").exists()


def _read_runs(recipes: Sequence[str]) -> list[ScheduledRun]:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        DeploymentFilter,
        DeploymentFilterId,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort

    scheduled = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED]))
    with get_client(sync_client=True, httpx_settings={"timeout": TIMEOUT_S}) as client:
        found = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=scheduled),
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            limit=MAX_READ,
        )
        own = [run for run in found if _recipe_name(run)]
        own = [run for run in own if not recipes or _recipe_name(run) in recipes][:MAX_RUNS]
        ids = [run.deployment_id for run in own if run.deployment_id]
        deployments = (
            client.read_deployments(
                deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=ids))
            )
            if ids
            else []
        )
    names: dict[Any, str] = {deployment.id: deployment.name for deployment in deployments}
    return [
        ScheduledRun(str(_recipe_name(run)), names.get(run.deployment_id, ""), time.isoformat())
        for run in own
        if (time := run.expected_start_time) is not None
    ]


def _recipe_name(run: Any) -> str | None:
    recipe = (run.parameters or {}).get("recipe")
    return recipe.get("name") if isinstance(recipe, dict) else None
