"""The flow of a whole recipe, from its sources to evaluated models.

``flows.parts`` has the flows of its parts. They are apart because Prefect describes the parameters of each
flow when its module is imported, which takes 0.2 s of CPU for a recipe, in every process of a run.
"""

from typing import Annotated, Any

from prefect import flow
from pydantic import Field, StringConstraints

from flows.attempts import run_with_retries
from flows.recipe import Recipe
from flows.runner import run_pipeline, task_runner
from flows.steps import LAST_STAGE, StageName
from flows.tracing import start_tracing

start_tracing()  # before Prefect makes the span of a flow run

ON_DEMAND = "on demand"

# Why a run was started: by whom, by which schedule, event or commit.
Reason = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200),
    Field(description="why this run is started; shown in its name, its log and its record"),
]


@flow(
    name="pipeline",
    flow_run_name="pipeline {recipe.name}: {reason}",
    task_runner=task_runner(),
    log_prints=False,
)
def pipeline(
    recipe: Recipe, until: StageName = LAST_STAGE, reason: Reason = ON_DEMAND
) -> dict[str, Any]:
    """Run from sources to evaluated models, or up to and including a stage."""
    return run_with_retries(lambda: run_pipeline(recipe, until, reason=reason))
