"""``gristmill ablate``."""

from typing import TYPE_CHECKING, NoReturn

import click

from cli.common import print_json, recipe_command
from cli.interrupts import clean_up_on_interrupt
from cli.models import EXIT_GATE_FAILED
from cli.run import exit_now, redirect_stdout_to_stderr, use_prefect_server
from infra.errors import UserError

if TYPE_CHECKING:
    from flows.recipe import Recipe
    from infra.runs.run_records import RunRecord
    from infra.store.storage import Storage
    from views.models.ablation import Requirement


@recipe_command
@click.option(
    "--require",
    type=click.Choice(["not-worse", "better"]),
    help="exit with 4 if a variant is worse by any metric; with `better`, also unless each is better by one",
)
def ablate(
    recipe: "Recipe",
    store: "Storage",  # noqa: ARG001
    require: "Requirement | None",
    as_json: bool,
) -> None:
    """Train models on variants of the corpus, and say which variant is better."""
    from infra.compute.processes import end_on_hangup

    if recipe.ablate is None:
        raise UserError(
            "the recipe has no section `ablate`, which names the variants to compare (docs/ablate.md)"
        )
    end_on_hangup()
    with redirect_stdout_to_stderr() as restore:

        def exit_process(_: "RunRecord", error: BaseException | None) -> NoReturn:
            restore()
            exit_now(_say_unfinished, error)

        keep_server = use_prefect_server(exit_process)
        from flows.ablation import ablate as flow

        with clean_up_on_interrupt():
            found = flow(recipe)
        keep_server()
    if as_json:
        print_json(found.to_json())
    else:
        click.echo(found.to_text())
    if require is not None and not found.satisfies(require):
        raise SystemExit(EXIT_GATE_FAILED)


def _say_unfinished() -> None:
    """Say that a variant is done, and that the server that this process needs for the others is lost."""
    raise UserError("run the same command again to go on; finished work is reused")
