"""``gristmill deploy``."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.common import print_json, recipe_command
from infra.errors import UserError

if TYPE_CHECKING:
    from flows.deployments import PoolKind
    from flows.recipe import Recipe
    from infra.store.storage import Storage


@recipe_command
@click.option(
    "--pool-type",
    type=click.Choice(["process", "docker", "kubernetes"]),
    default="process",
    show_default=True,
    help="what starts the runs",
)
@click.option("--pool", help="name of the work pool  [default: as in prefect.yaml]")
@click.option("--image", help="image of the containers; for docker and kubernetes")
@click.option(
    "--directory",
    help="folder in which runs are started on the worker's machine, to which relative paths of the "
    "recipe refer; for process  [default: the current folder, if the recipe has relative paths]",
)
@click.option(
    "--notify",
    metavar="URL",
    help="where to report failed and late runs: a webhook, or an Apprise URL such as mailtos://...",
)
def deploy(
    recipe: "Recipe",
    store: "Storage",  # noqa: ARG001
    pool_type: "PoolKind",
    pool: str | None,
    image: str | None,
    directory: str | None,
    notify: str | None,
    as_json: bool,
) -> None:
    """Register the deployments of a recipe on the Prefect server, with schedules and automations.

    The recipe becomes their parameter. Run the command again after every change of the recipe; it
    updates what differs. What ${NAME} stands for is not stored: workers read it from their environment.
    """
    variables = _job_variables(recipe, pool_type, image, directory)
    client_context = connect()
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    from flows.automations import (
        apply_automation,
        recipe_automations,
        save_notification,
        server_automations,
    )
    from flows.deployments import ensure_pool, recipe_deployments, register, when_free

    deployments = recipe_deployments(recipe, pool_type, variables, pool)
    name = deployments[0].work_pool.name
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), client_context as client:
        created = when_free(lambda: ensure_pool(client, name, pool_type))
        registered = [register(client, deployment) for deployment in deployments]
        by_flow = {item.flow: item.id for item in registered}
        block = None if notify is None else when_free(lambda: save_notification(notify))
        automations = {
            automation.name: when_free(partial(apply_automation, client, automation))
            for automation in (
                *recipe_automations(recipe.name, by_flow),
                *server_automations(block),
            )
        }
    if as_json:
        print_json(
            {
                "recipe": recipe.name,
                "pool": {"name": name, "type": pool_type, "created": created},
                "deployments": [item.to_json() for item in registered],
                "automations": automations,
            }
        )
        return
    width = max(len(item.name) for item in registered)
    for item in registered:
        click.echo(f"{item.name:<{width}}  {item.schedule or 'on demand'}")
    click.echo(f"automations: {', '.join(automations)}")
    click.echo(f"start a worker, if none runs: prefect worker start --pool {name}")


def connect() -> Any:
    """Return a client of the Prefect server that the settings name.

    Raises:
        UserError: if they name none, or it does not answer.
    """
    from cli.run import load_prefect_settings, require_server

    api_url = load_prefect_settings()
    if not api_url:
        raise UserError(
            "deployments need a Prefect server, and PREFECT_API_URL is not set; start one with "
            "`prefect server start`, then `export PREFECT_API_URL=http://127.0.0.1:4200/api`"
        )
    require_server(api_url)
    from prefect.client.orchestration import get_client

    return get_client(sync_client=True)


def _job_variables(
    recipe: "Recipe", pool_type: str, image: str | None, directory: str | None
) -> dict[str, Any]:
    """Return the settings of the runs' processes or containers."""
    if pool_type == "process":
        if image is not None:
            raise UserError("--image is for --pool-type docker and kubernetes; processes use none")
        if directory is None and relative_paths(recipe):
            directory = str(Path.cwd())
        elif directory is not None and not Path(directory).is_absolute():
            raise UserError(f"--directory {directory}: an absolute path is expected")
        return {} if directory is None else {"working_dir": directory}
    if directory is not None:
        raise UserError(f"--directory is for --pool-type process, not {pool_type}")
    if paths := relative_paths(recipe):
        raise UserError(
            f"{paths[0]}: a container has no current folder of yours; give an absolute path that is "
            "mounted in it, or a URL such as s3://bucket/prefix"
        )
    return {} if image is None else {"image": image}


def relative_paths(recipe: "Recipe") -> list[str]:
    """Return the paths of a recipe that are relative to the current folder, with their fields."""
    from lm.config.train import TrainConfig

    paths = {"storage": recipe.storage, "tokenize.tokenizer": recipe.tokenize.tokenizer}
    for source in recipe.sources:
        for path in getattr(source, "paths", ()):
            paths[f"sources.{source.name}.paths: {path}"] = path
    if recipe.evaluate is not None:
        for kind in ("similarity", "analogies"):
            for number, path in enumerate(getattr(recipe.evaluate.word_vectors, kind)):
                paths[f"evaluate.word_vectors.{kind}.{number}"] = path
        for number, suite in enumerate(recipe.evaluate.suites):
            field = f"evaluate.suites.{number}"
            if isinstance(suite, str):
                paths[field] = suite
            else:
                paths[f"{field}.data"] = suite["data"]
    for entry in recipe.train:
        if isinstance(entry, TrainConfig):
            paths[f"train.{entry.name}.run.checkpoint_url"] = entry.run.checkpoint_url
    for task in recipe.finetune:
        paths[f"finetune.{task.name}.base"] = task.base_folder
        for key in ("files", "train", "validation", "test"):
            for given in getattr(task.data, key):
                for path in (given,) if isinstance(given, str) else given:
                    paths[f"finetune.{task.name}.data.{key}: {path}"] = path
    return [
        f"{field}: {path}" if path not in field else field
        for field, path in paths.items()
        if path is not None and "://" not in path and not os.path.isabs(path)  # noqa: PTH117
    ]
