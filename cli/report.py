"""``gristmill report``."""

import click

from cli.common import handle_errors, json_option, print_json, recipe_options
from flows.recipe_loader import load_recipe
from flows.steps import STEPS
from infra.runs.run_records import latest_run
from infra.store.storage import Storage
from views.report import build_report


@click.command()
@recipe_options
@json_option
@handle_errors
def report(path: str, storage: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Build the report page of the latest run again."""
    recipe = load_recipe(path, overrides, storage)
    store = Storage(recipe.storage)
    url = build_report(store, latest_run(store, recipe.name), STEPS)
    if as_json:
        print_json({"recipe": recipe.name, "report": url})
    else:
        click.echo(url)
