"""``gristmill dropped``."""

from typing import TYPE_CHECKING

import click

from cli.common import print_json, recipe_command

if TYPE_CHECKING:
    from flows.recipe import Recipe
    from infra.store.storage import Storage


@recipe_command
@click.option("--stage", help="only documents that this stage dropped or failed")
@click.option("--reason", help="only documents dropped or failed for this reason")
@click.option(
    "--limit", type=click.IntRange(min=1), default=10, show_default=True, help="number of samples"
)
def dropped(
    recipe: "Recipe",
    store: "Storage",
    stage: str | None,
    reason: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show samples of what was dropped or failed, with the reason and the evidence."""
    from flows.steps import STEPS
    from infra.runs.run_records import latest_results
    from views.documents.dropped import sample_dropped

    record = latest_results(store, recipe.name)
    documents = sample_dropped(store, record, STEPS, stage, reason, limit)
    if as_json:
        print_json({"recipe": recipe.name, "dropped": [item.to_json() for item in documents]})
    else:
        for document in documents:
            click.echo(document.to_text() + "\n")
