"""The Prefect flow that deletes what no recipe needs any more, in the store and in Prefect's database."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from prefect import flow, get_client
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import TERMINAL_STATES
from pydantic import Field

from flows.attempts import TIMEOUT_S
from flows.logs import filter_logs
from flows.pipeline import ON_DEMAND, Reason
from flows.recipe import Name, Recipe
from infra.compute.jit import kernel_folder
from infra.runs.gc import collect_needed, delete_unneeded, find_deletions
from infra.runs.run_records import list_recipes
from infra.store.cache_dir import delete_stale, find_stale
from infra.store.environment import mask_errors
from infra.store.storage import Storage

TAG = "gristmill"  # of all deployments, and so of their runs
PAGE_SIZE = 200  # flow runs that are deleted between two queries

log = logging.getLogger(__name__)

Days = Annotated[int, Field(ge=0, le=36_500)]


@flow(
    name="housekeeping",
    flow_run_name="housekeeping {recipe.name}: {reason}",
    timeout_seconds=TIMEOUT_S,
)
@mask_errors()
def housekeeping(
    recipe: Recipe,
    forget: Annotated[
        tuple[Name, ...],
        Field(description="recipes of this store whose data is not needed any more"),
    ] = (),
    keep_days: Annotated[
        Days, Field(description="data of completed runs of so many days stays as well")
    ] = 7,
    keep_flow_runs_days: Annotated[
        Days,
        Field(description="flow runs of Gristmill that ended earlier are deleted from Prefect"),
    ] = 90,
    mode: Annotated[
        Literal["delete", "list"], Field(description="list: only show what would be deleted")
    ] = "delete",
    reason: Reason = ON_DEMAND,  # noqa: ARG001 - in the run's name
) -> dict[str, Any]:
    """Delete old data of all recipes of a store, stale caches of this machine, and old flow runs.

    What the latest run and the latest completed run of every recipe need stays, except of recipes to
    forget, and so does what a running or interrupted run uses.
    """
    storage = Storage(recipe.storage)
    dry_run = mode == "list"
    now = datetime.now(UTC)
    recipes = [name for name in list_recipes(storage) if name not in forget]
    since = now - timedelta(days=keep_days)
    with filter_logs():
        if dry_run:
            deletions = find_deletions(storage, collect_needed(storage, recipes, since))
        else:
            deletions = delete_unneeded(storage, recipes, since)
        caches = find_stale(kernel_folder())
        if not dry_run:
            delete_stale(caches)
        rows = [{"kind": d.kind, "path": d.path, "bytes": d.bytes} for d in deletions]
        rows += [
            {"kind": "cache", "path": str(path), "bytes": size} for path, size in caches.items()
        ]
        verb = "would free" if dry_run else "freed"
        total = sum(deletion.bytes for deletion in deletions) + sum(caches.values())
        log.info("%s %s bytes in %s entries", verb, f"{total:,}", len(rows))
        flow_runs = 0 if dry_run else _delete_flow_runs(now - timedelta(days=keep_flow_runs_days))
        log.info("deleted %s flow runs from Prefect's database", flow_runs)
        if rows:
            create_table_artifact(
                table=rows,
                key=f"housekeeping-{recipe.name.lower()}",
                description=f"{verb} {total:,} bytes",
            )
    return {"bytes": total, "deleted": rows, "flow_runs": flow_runs, "dry_run": dry_run}


def _delete_flow_runs(before: datetime) -> int:
    """Delete ended flow runs of Gristmill's deployments, with their task runs and logs; return how many."""
    old = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[TAG]),
        end_time=FlowRunFilterEndTime(before_=before),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=sorted(TERMINAL_STATES))),
    )
    deleted = 0
    with get_client(sync_client=True) as client:
        while runs := client.read_flow_runs(flow_run_filter=old, limit=PAGE_SIZE):
            for run in runs:
                client.delete_flow_run(run.id)
            deleted += len(runs)
    return deleted
