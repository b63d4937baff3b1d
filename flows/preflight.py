"""Before a run: what would be done, and whether this machine can."""

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from flows.dag import build_pipeline
from flows.execute import Planner
from flows.recipe import STAGES, Recipe, StageName
from infra.compute.cluster import ClusterConfig, DaskCluster
from infra.compute.progress import NullReporter
from infra.dataset.stage import Context
from infra.errors import UserError
from infra.removals.log import load_removals
from infra.store.storage import Storage
from lm.launch.preflight import training_errors as training_faults
from lm.launch.preflight import training_warnings
from tasks.tokenize.task import load_given_tokenizer


def plan_pipeline(recipe: Recipe, until: StageName) -> Planner:
    """Walk the road asking the store only: what this machine lacks is told by ``preflight_errors``."""
    inline = DaskCluster(ClusterConfig.model_validate({"workers": 0}))
    storage = Storage(recipe.storage)
    ctx = Context(storage, recipe.seed, inline, NullReporter(), recipe.name, "", datetime.now(UTC))
    planner = Planner(ctx)
    build_pipeline(planner, recipe, until, load_removals(storage, recipe.name))
    return planner


def preflight_errors(
    recipe: Recipe, until: StageName, get_planner: Callable[[], Planner]
) -> list[UserError]:
    """What would end the road early on this machine, each naming its field.

    Models that are there already ask for nothing.

    Args:
        recipe: what is wanted.
        until: the last stage.
        get_planner: tells what is there; called only if something is amiss.
    """
    found = []
    if _includes_stage("tokenize", until):
        try:
            load_given_tokenizer(recipe.tokenize)
        except UserError as error:
            found.append(error)
    entries = recipe.train if _includes_stage("train", until) else ()
    amiss = [(entry.name, fault) for entry in entries for fault in training_faults(entry)]
    there = _existing_models(get_planner()) if amiss else set()
    return [*found, *(fault for name, fault in amiss if name not in there)]


def check_machine(recipe: Recipe, until: StageName, get_planner: Callable[[], Planner]) -> None:
    """Raise the first of the ``preflight_errors``, if there are any."""
    for fault in preflight_errors(recipe, until, get_planner):
        raise fault


def preflight_warnings(
    recipe: Recipe, until: StageName, gpus: int, get_planner: Callable[[], Planner]
) -> list[str]:
    """What models that are still to be trained ask of this machine, and is hardly meant.

    Args:
        recipe: what is wanted.
        until: the last stage.
        gpus: of this machine.
        get_planner: tells what is there; called only if there is something to remark. Where it
            cannot, all is remarked: what is wrong there is for the run itself to tell.
    """
    cores = os.cpu_count() or 1
    entries = recipe.train if _includes_stage("train", until) else ()
    found = [
        (entry.name, text) for entry in entries for text in training_warnings(entry, cores, gpus)
    ]
    there: set[str | None] = set()
    if found:
        with suppress(UserError, OSError):
            there = _existing_models(get_planner())
    return [text for name, text in found if name not in there]


def _includes_stage(stage: StageName, until: StageName) -> bool:
    return STAGES.index(stage) <= STAGES.index(until)


def _existing_models(planner: Planner) -> set[str | None]:
    steps = [step for step in planner.steps if step.step == "train"]
    return {step.entry for step in steps if step.dataset is not None}
