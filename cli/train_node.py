"""``gristmill join``: another machine of a training over several."""

import time

import click

from cli.common import handle_errors, recipe_options
from flows.planner import PlannedStep, plan_pipeline
from flows.recipe import Recipe
from flows.recipe_loader import load_recipe
from flows.steps import TRAIN
from infra.dataset.dataset import MANIFEST
from infra.errors import UserError
from infra.store.storage import Storage
from lm.config.train import TrainConfig
from lm.launch.node import run_node
from lm.launch.rendezvous import local_address, rendezvous_store

POLL_INTERVAL_S = 5.0  # seconds between two looks at what the first machine has made so far


@click.command()
@recipe_options
@click.option("--model", "name", required=True, help="an entry of train with run.num_nodes above 1")
@handle_errors
def train_node(path: str, storage: str | None, overrides: tuple[str, ...], name: str) -> None:
    """Lend this machine to a training that another one runs (train.run.num_nodes)."""
    recipe = load_recipe(path, overrides, storage)
    config = _find_entry(recipe, name)
    folder = _wait_for_model_path(recipe, name)
    meet = rendezvous_store(config, folder.rsplit("/", 1)[-1])
    assert meet is not None
    store = Storage(recipe.storage)
    run_node(config, meet, lambda: store.exists(f"{folder}/{MANIFEST}"), _print_status)
    _print_status(f"{name} is trained: {store.url.rstrip('/')}/{folder}")


def _find_entry(recipe: Recipe, name: str) -> TrainConfig:
    found = next((entry for entry in recipe.train if entry.name == name), None)
    if found is None:
        there = ", ".join(entry.name for entry in recipe.train) or "none"
        raise UserError(f"--model {name}: train has {there}")
    if found.run.num_nodes == 1 or found.run.rendezvous is None:
        raise UserError(f"train.{name}.run.num_nodes: 1, so there is nothing to join")
    local_address(found.run.rendezvous)  # said now, if there is no way to it
    return found


def _wait_for_model_path(recipe: Recipe, name: str) -> str:
    """The model's data set, as soon as all that it is made from is there."""
    said = ""
    while True:
        step = _plan_train_step(recipe, name)
        if step.folder is not None:
            return step.folder
        if step.why != said:
            _print_status(f"waiting for the first machine: {name} comes {step.why}")
            said = step.why
        time.sleep(POLL_INTERVAL_S)


def _plan_train_step(recipe: Recipe, name: str) -> PlannedStep:
    steps = plan_pipeline(recipe, TRAIN.name).steps
    return next(step for step in steps if (step.step, step.entry) == (TRAIN.name, name))


def _print_status(text: str) -> None:
    click.echo(text, err=True)
