"""``gristmill train-node``: join this machine to a multi-node training run."""

import time
from datetime import datetime
from typing import TYPE_CHECKING

import click

from cli.common import print_json, recipe_command
from cli.interrupts import clean_up_on_interrupt
from infra.errors import UserError

if TYPE_CHECKING:
    from flows.recipe import Recipe
    from infra.store.storage import Storage
    from lm.config.train import TrainConfig

POLL_INTERVAL_S = 5.0  # between two looks at what the first machine has made so far


@recipe_command
@click.option("--model", "name", required=True, help="an entry of train with run.num_nodes above 1")
def train_node(recipe: "Recipe", store: "Storage", name: str, as_json: bool) -> None:
    """Join this machine to a multi-node training run that another machine has started."""
    config, folder = _find_entry(recipe, name), None
    while folder is None:
        folder = _join_run(recipe, store, config)
    url = f"{store.url.rstrip('/')}/{folder}"
    _print_status(f"{name} is trained: {url}")
    if as_json:
        print_json({"recipe": recipe.name, "model": name, "path": url})


def _find_entry(recipe: "Recipe", name: str) -> "TrainConfig":
    from lm.config.train import TrainConfig
    from lm.launch.rendezvous import local_address

    entry = next((entry for entry in recipe.models if entry.name == name), None)
    if entry is None:
        names = ", ".join(entry.name for entry in recipe.models) or "none"
        raise UserError(f"--model {name}: not an entry of train; entries: {names}")
    if not isinstance(entry, TrainConfig):
        raise UserError(
            f"--model {name}: a model of the family {entry.family} is made on the Dask cluster, so "
            "there is no run to join"
        )
    if entry.run.num_nodes == 1 or entry.run.rendezvous is None:
        raise UserError(f"train.{name}.run.num_nodes: 1, so there is no run to join")
    local_address(entry.run.rendezvous)  # fails now if this machine has no route to it
    return entry


def _join_run(recipe: "Recipe", store: "Storage", config: "TrainConfig") -> str | None:
    """Take part in the training of the first machine's run; return the folder of the model.

    Returns ``None`` if another run started before this one trained the model.
    """
    from infra.dataset.manifest import MANIFEST
    from lm.launch.node import run_node
    from lm.launch.rendezvous import rendezvous_store

    start, folder = _wait_for_model_path(recipe, store, config.name)
    rendezvous = rendezvous_store(config, folder.rsplit("/", 1)[-1])
    assert rendezvous is not None
    with clean_up_on_interrupt():
        committed = run_node(
            config,
            rendezvous,
            is_committed=lambda: store.exists(f"{folder}/{MANIFEST}"),
            is_superseded=lambda: _first_machine_start(recipe, store) not in (None, start),
            on_status=_print_status,
        )
    return folder if committed else None


def _wait_for_model_path(
    recipe: "Recipe", store: "Storage", name: str
) -> tuple[datetime | None, str]:
    """Return the start of the first machine's run and the folder of its model.

    Waits until all inputs of the model are committed.
    """
    from flows.planner import plan_pipeline
    from flows.steps import TRAIN

    last_printed = ""
    while True:
        start = _first_machine_start(recipe, store)
        steps = plan_pipeline(recipe, TRAIN.name, start).steps
        step = next(step for step in steps if (step.stage, step.entry) == (TRAIN.name, name))
        if step.folder is not None:
            return start, step.folder
        if step.why != last_printed:
            _print_status(f"waiting for the first machine: {name} comes {step.why}")
            last_printed = step.why
        time.sleep(POLL_INTERVAL_S)


def _first_machine_start(recipe: "Recipe", store: "Storage") -> datetime | None:
    """Return when the newest run of this recipe that has not ended started; ``None`` without one.

    The snapshots of sources that are crawled again have the label of that time. By this machine's
    clock, the model of a run that started before the hour or the day ended would be another one.
    """
    from infra.compute.lease import list_leases
    from infra.runs.run_records import run_start

    leases = list_leases(store).values()
    runs = [lease.run for lease in leases if lease.recipe == recipe.name and lease.is_live]
    return run_start(max(runs)) if runs else None


def _print_status(text: str) -> None:
    click.echo(text, err=True)
