"""Before a run: what would be done, and whether this machine can."""

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from flows.dag import walk
from flows.execute import Planner
from flows.recipe import STAGES, Recipe, StageName
from infra.compute.cluster import Cluster, ClusterConfig
from infra.compute.progress import Silent
from infra.dataset.stage import Context
from infra.errors import UserError
from infra.removals.log import removals
from infra.store.storage import Storage
from lm.launch.preflight import faults as training_faults
from lm.launch.preflight import remarks
from tasks.tokenize.task import given


def plan(recipe: Recipe, until: StageName) -> Planner:
    """Walk the road asking the store only: what this machine lacks is told by ``faults``."""
    inline = Cluster(ClusterConfig.model_validate({"workers": 0}))
    storage = Storage(recipe.storage)
    ctx = Context(storage, recipe.seed, inline, Silent(), recipe.name, "", datetime.now(UTC))
    planner = Planner(ctx)
    walk(planner, recipe, until, removals(storage, recipe.name))
    return planner


def faults(recipe: Recipe, until: StageName, planned: Callable[[], Planner]) -> list[UserError]:
    """What would end the road early on this machine, each naming its field.

    Models that are there already ask for nothing.

    Args:
        recipe: what is wanted.
        until: the last stage.
        planned: tells what is there; called only if something is amiss.
    """
    found = []
    if _wanted("tokenize", until):
        try:
            given(recipe.tokenize)
        except UserError as error:
            found.append(error)
    entries = recipe.train if _wanted("train", until) else ()
    amiss = [(entry.name, fault) for entry in entries for fault in training_faults(entry)]
    there = _trained(planned()) if amiss else set()
    return [*found, *(fault for name, fault in amiss if name not in there)]


def require_machine(recipe: Recipe, until: StageName, planned: Callable[[], Planner]) -> None:
    """Raise the first of the ``faults``, if there are any."""
    for fault in faults(recipe, until, planned):
        raise fault


def remarked(
    recipe: Recipe, until: StageName, gpus: int, planned: Callable[[], Planner]
) -> list[str]:
    """What models that are still to be trained ask of this machine, and is hardly meant.

    Args:
        recipe: what is wanted.
        until: the last stage.
        gpus: of this machine.
        planned: tells what is there; called only if there is something to remark. Where it
            cannot, all is remarked: what is wrong there is for the run itself to tell.
    """
    cores = os.cpu_count() or 1
    entries = recipe.train if _wanted("train", until) else ()
    found = [(entry.name, text) for entry in entries for text in remarks(entry, cores, gpus)]
    there: set[str | None] = set()
    if found:
        with suppress(UserError, OSError):
            there = _trained(planned())
    return [text for name, text in found if name not in there]


def _wanted(stage: StageName, until: StageName) -> bool:
    return STAGES.index(stage) <= STAGES.index(until)


def _trained(planner: Planner) -> set[str | None]:
    steps = [step for step in planner.steps if step.step == "train"]
    return {step.entry for step in steps if step.dataset is not None}
