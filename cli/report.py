"""``gristmill report``."""

from typing import TYPE_CHECKING

import click

from cli.common import print_json, recipe_command

if TYPE_CHECKING:
    from flows.recipe import Recipe
    from infra.store.storage import Storage


@recipe_command
def report(recipe: "Recipe", store: "Storage", as_json: bool) -> None:
    """Build the report page of the latest run again."""
    from flows.steps import STEPS
    from infra.runs.run_records import latest_run
    from views.report import build_report

    path = build_report(store, latest_run(store, recipe.name), STEPS)
    url = f"{store.url.rstrip('/')}/{path}"
    if as_json:
        print_json({"recipe": recipe.name, "report": url})
    else:
        click.echo(url)
