"""``gristmill remove``: record removals, restore them, list them."""

from typing import TYPE_CHECKING, Any

import click

from cli.common import print_json, recipe_command
from infra.errors import UserError

if TYPE_CHECKING:
    from flows.recipe import Recipe
    from infra.removals.match import Removal
    from infra.store.storage import Storage
    from views.removal.apply import RemovalResult


@recipe_command
@click.option("--url", multiple=True, metavar="URL", help="the documents of a URL")
@click.option(
    "--domain", multiple=True, metavar="DOMAIN", help="the documents of a domain and its subdomains"
)
@click.option(
    "--license",
    multiple=True,
    metavar="LICENSE",
    help="the documents under a license, as written in their license column",
)
@click.option("--id", multiple=True, metavar="ID", help="a document, by its id")
@click.option("--note", help="the reason; stored with the record")
@click.option("--restore", is_flag=True, help="restore what was removed instead")
@click.option("--list", "as_list", is_flag=True, help="list all removals, and change nothing")
@click.option(
    "--locations", is_flag=True, help="with --list: the data sets that still hold removed documents"
)
def remove(
    recipe: "Recipe",
    store: "Storage",
    note: str | None,
    restore: bool,
    as_list: bool,
    locations: bool,
    as_json: bool,
    **values: tuple[str, ...],
) -> None:
    """Remove documents from a recipe permanently; the next run applies it everywhere.

    Every option that names documents can be repeated.
    """
    from flows.steps import STEPS
    from infra.removals.log import load_active_removals
    from infra.removals.match import KINDS, parse_removal
    from views.removal.apply import remove_documents, restore_documents

    removals = [parse_removal(kind, value) for kind in KINDS for value in values[kind]]
    if as_list:
        if removals or restore:
            raise UserError(
                "--list lists all removals; only --locations and --json can be combined with it"
            )
        _print_removals(store, recipe.name, locations=locations, as_json=as_json)
        return
    if locations:
        raise UserError("--locations requires --list")
    if not removals:
        kinds = ", ".join(f"--{kind}" for kind in KINDS)
        raise UserError(f"nothing to remove: give one of {kinds}, or --list")
    result = (restore_documents if restore else remove_documents)(
        store, recipe.name, removals, STEPS, note
    )
    if as_json:
        print_json(
            {
                "recipe": recipe.name,
                "restored" if restore else "recorded": [item.to_json() for item in result.new],
                "impact": [item.to_json() for item in result.impact],
                "removals": [entry.to_json() for entry in load_active_removals(store, recipe.name)],
                "models": [item.to_json() for item in result.models],
            }
        )
        return
    for line in _format_result(removals, result, restore=restore):
        click.echo(line)


def _format_result(
    removals: list["Removal"], result: "RemovalResult", *, restore: bool
) -> list[str]:
    lines = [str(item) for item in result.impact]
    if not restore and not result.impact:
        lines += [f"{item}: no run yet, so its impact is unknown" for item in removals]
    unchanged = [item for item in removals if item not in result.new]
    lines += [f"{item}: is removed already" for item in unchanged]
    lines += [str(item) for item in result.models]
    if result.new:
        verb = "restored" if restore else "recorded"
        path = click.get_current_context().params["path"]
        lines.append(f"{verb}; the next run applies it: gristmill run {path}")
    return lines


def _print_removals(store: "Storage", recipe: str, *, locations: bool, as_json: bool) -> None:
    from flows.steps import STEPS
    from infra.removals.log import load_active_removals
    from views.removal.apply import refresh_exposure
    from views.removal.residue import find_residue

    entries = load_active_removals(store, recipe)
    models = refresh_exposure(store, recipe, STEPS)
    removals = [entry.removal for entry in entries]
    residual = find_residue(store, recipe, removals, STEPS) if locations else []
    if as_json:
        value: dict[str, Any] = {
            "recipe": recipe,
            "removals": [entry.to_json() for entry in entries],
            "models": [item.to_json() for item in models],
        }
        print_json(
            {**value, "residual": [item.to_json() for item in residual]} if locations else value
        )
        return
    for entry in entries:
        note = f"  ({entry.note})" if entry.note else ""
        click.echo(f"{entry.recorded}  {entry.removal}{note}")
    if not entries:
        click.echo(f"nothing is removed from {recipe}")
    for line in (*models, *residual):
        click.echo(str(line))
    if locations and not residual:
        click.echo("no data set of this store holds any removed document")
