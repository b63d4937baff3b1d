"""``gristmill models``."""

from typing import TYPE_CHECKING

import click

from cli.common import print_json, recipe_command

if TYPE_CHECKING:
    from flows.recipe import Recipe
    from infra.store.storage import Storage

# Exit status; 1 is any other failure, 2 is click's for a wrong command line.
EXIT_GATE_FAILED = 4


@recipe_command
@click.option(
    "--require",
    "requirements",
    multiple=True,
    metavar="CONDITION",
    help="exit with 4 unless it holds for every model and the latest run completed, for example "
    "'bits_per_byte <= previous * 1.005'; may be given several times",
)
@click.option(
    "--reason", help="look at the latest run that was started for this reason, as a deployment"
)
@click.option("--markdown", is_flag=True, help="print Markdown, for the summary of a CI job")
def models(
    recipe: "Recipe",
    store: "Storage",
    requirements: tuple[str, ...],
    reason: str | None,
    markdown: bool,
    as_json: bool,
) -> None:
    """Show the models of the latest run beside those before them; check conditions on them."""
    from flows.steps import STEPS
    from infra.runs.run_records import latest_run, latest_run_for
    from lm.metrics.conditions import parse_condition
    from views.models.comparison import compare_models

    conditions = [parse_condition(text) for text in requirements]
    record = (
        latest_run(store, recipe.name)
        if reason is None
        else latest_run_for(store, recipe.name, reason)
    )
    comparison = compare_models(store, record, STEPS, conditions)
    if as_json:
        print_json(comparison.to_json())
    else:
        click.echo(comparison.to_markdown() if markdown else comparison.to_text())
    if requirements and not comparison.passed:
        raise SystemExit(EXIT_GATE_FAILED)
