"""``gristmill join``: another machine of a training over several."""

import time

import click

from cli.common import guarded, recipe_options
from flows.execute import Planned
from flows.preflight import plan
from flows.recipe import Recipe, load
from infra.dataset.dataset import MANIFEST
from infra.errors import UserError
from infra.store.storage import Storage
from lm.config.train import TrainConfig
from lm.launch.node import take_part
from lm.launch.rendezvous import meeting, own_address

POLL = 5.0  # seconds between two looks at what the first machine has made so far


@click.command()
@recipe_options
@click.option("--model", "name", required=True, help="an entry of train with nodes above 1")
@guarded
def join(path: str, storage: str | None, overrides: tuple[str, ...], name: str) -> None:
    """Lend this machine to a training that another one runs (train.nodes)."""
    recipe = load(path, overrides, storage)
    config = _entry(recipe, name)
    folder = _folder(recipe, name)
    meet = meeting(config, folder.rsplit("/", 1)[-1])
    assert meet is not None
    store = Storage(recipe.storage)
    take_part(config, meet, lambda: store.exists(f"{folder}/{MANIFEST}"), _tell)
    _tell(f"{name} is trained: {store.url.rstrip('/')}/{folder}")


def _entry(recipe: Recipe, name: str) -> TrainConfig:
    found = next((entry for entry in recipe.train if entry.name == name), None)
    if found is None:
        there = ", ".join(entry.name for entry in recipe.train) or "none"
        raise UserError(f"--model {name}: train has {there}")
    if found.nodes == 1 or found.rendezvous is None:
        raise UserError(f"train.{name}.nodes: 1, so there is nothing to join")
    own_address(found.rendezvous)  # said now, if there is no way to it
    return found


def _folder(recipe: Recipe, name: str) -> str:
    """The model's data set, as soon as all that it is made from is there."""
    said = ""
    while True:
        step = _planned(recipe, name)
        if step.folder is not None:
            return step.folder
        if step.why != said:
            _tell(f"waiting for the first machine: {name} comes {step.why}")
            said = step.why
        time.sleep(POLL)


def _planned(recipe: Recipe, name: str) -> Planned:
    steps = plan(recipe, "train").steps
    return next(step for step in steps if (step.step, step.entry) == ("train", name))


def _tell(text: str) -> None:
    click.echo(text, err=True)
