"""The Prefect flows: the whole pipeline, and the pipeline up to a stage.

Committed data sets are taken from the store, so ``pretrain`` after ``tokens`` only trains.
"""

from typing import Any

from prefect import flow

from flows.recipe import Recipe
from flows.runner import run_pipeline, task_runner
from flows.steps import EVALUATE, LAST_STAGE, SELECT, TOKENIZE, TRAIN, StageName


@flow(
    name="pipeline",
    flow_run_name="pipeline {recipe.name}",
    task_runner=task_runner(),
    log_prints=False,
)
def pipeline(recipe: Recipe, until: StageName = LAST_STAGE) -> dict[str, Any]:
    """Run from sources to evaluated models, or up to and including a stage."""
    return run_pipeline(recipe, until)


@flow(name="corpus", flow_run_name="corpus {recipe.name}", task_runner=task_runner())
def corpus(recipe: Recipe) -> dict[str, Any]:
    """Run from sources to the selected corpus."""
    return run_pipeline(recipe, SELECT.name)


@flow(name="tokens", flow_run_name="tokens {recipe.name}", task_runner=task_runner())
def tokens(recipe: Recipe) -> dict[str, Any]:
    """Run up to token shards."""
    return run_pipeline(recipe, TOKENIZE.name)


@flow(name="pretrain", flow_run_name="pretrain {recipe.name}", task_runner=task_runner())
def pretrain(recipe: Recipe) -> dict[str, Any]:
    """Run up to trained and exported models."""
    return run_pipeline(recipe, TRAIN.name)


@flow(name="evaluate", flow_run_name="evaluate {recipe.name}", task_runner=task_runner())
def evaluate(recipe: Recipe) -> dict[str, Any]:
    """Run up to evaluated models."""
    return run_pipeline(recipe, EVALUATE.name)
