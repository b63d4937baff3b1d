"""``gristmill dropped``."""

import click

from cli.common import handle_errors, json_option, print_json, recipe_options
from flows.recipe_loader import load_recipe
from flows.steps import STEPS
from infra.runs.run_records import latest_run, with_earlier_results
from infra.store.storage import Storage
from views.documents.dropped import sample_dropped


@click.command()
@recipe_options
@click.option("--stage", help="only documents that this stage dropped or failed")
@click.option("--reason", help="only documents dropped or failed for this reason")
@click.option("--limit", default=10, show_default=True, help="number of samples")
@json_option
@handle_errors
def dropped(
    path: str,
    storage: str | None,
    overrides: tuple[str, ...],
    stage: str | None,
    reason: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show samples of what was dropped or failed, with the reason and the evidence."""
    recipe = load_recipe(path, overrides, storage)
    store = Storage(recipe.storage)
    record = with_earlier_results(store, latest_run(store, recipe.name))
    documents = sample_dropped(store, record, STEPS, stage, reason, limit)
    if as_json:
        print_json({"recipe": recipe.name, "dropped": [item.to_json() for item in documents]})
    else:
        for document in documents:
            click.echo(document.to_text() + "\n")
