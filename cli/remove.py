"""``gristmill remove``."""

from typing import Any

import click

from cli.common import handle_errors, json_option, print_json, recipe_options
from flows.recipe_loader import load_recipe
from infra.errors import UserError
from infra.removals.log import load_active_removals
from infra.removals.match import KINDS, Removal, parse_removal
from infra.store.storage import Storage
from views.removal import apply as command
from views.removal.residue import find_residual

_HELP = {
    "id": "a document, by its id",
    "url": "the documents of an address",
    "domain": "the documents of a domain and its subdomains",
    "license": "the documents under a licence, as written in their license column",
}


@click.command()
@recipe_options
@click.option("--url", multiple=True, metavar="URL", help=_HELP["url"])
@click.option("--domain", multiple=True, metavar="DOMAIN", help=_HELP["domain"])
@click.option("--license", multiple=True, metavar="LICENSE", help=_HELP["license"])
@click.option("--id", multiple=True, metavar="ID", help=_HELP["id"])
@click.option("--note", help="why; kept with the record")
@click.option("--restore", is_flag=True, help="lift these removals instead")
@click.option("--list", "as_list", is_flag=True, help="show what is removed, and do nothing")
@click.option("--locations", is_flag=True, help="with --list: which data sets still hold it")
@json_option
@handle_errors
def remove(
    path: str,
    storage: str | None,
    overrides: tuple[str, ...],
    note: str | None,
    restore: bool,
    as_list: bool,
    locations: bool,
    as_json: bool,
    **values: tuple[str, ...],
) -> None:
    """Take documents out of a recipe for good; the next run applies it everywhere.

    Every option that names documents may be given several times.
    """
    recipe = load_recipe(path, overrides, storage)
    store = Storage(recipe.storage)
    wanted = [parse_removal(kind, value) for kind in KINDS for value in values[kind]]
    if as_list:
        if wanted or restore:
            raise UserError(
                "--list shows all that is removed; it goes with --locations and --json only"
            )
        _print_removals(store, recipe.name, locations=locations, as_json=as_json)
        return
    if locations:
        raise UserError("--locations goes with --list")
    if not wanted:
        kinds = ", ".join(f"--{kind}" for kind in KINDS)
        raise UserError(f"nothing to remove: give one of {kinds}, or --list")
    done = (command.restore_documents if restore else command.remove_documents)(
        store, recipe.name, wanted, note
    )
    if as_json:
        print_json(
            {
                "recipe": recipe.name,
                "restored" if restore else "recorded": [item.to_json() for item in done.new],
                "impact": [item.to_json() for item in done.impact],
                "removals": [entry.to_json() for entry in load_active_removals(store, recipe.name)],
                "models": [mark.to_json() for mark in done.models],
            }
        )
        return
    for line in _format_result(path, wanted, done, restore=restore):
        click.echo(line)


def _format_result(
    path: str, wanted: list[Removal], result: command.RemovalResult, *, restore: bool
) -> list[str]:
    lines = [str(item) for item in result.impact]
    if not restore and not result.impact:
        lines += [f"{item}: there is no run yet that it could be compared with" for item in wanted]
    old = [item for item in wanted if item not in result.new]
    lines += [f"{item}: was removed before" for item in old]
    lines += [str(mark) for mark in result.models]
    if result.new:
        verb = "restored" if restore else "recorded"
        lines.append(f"{verb}; the next run applies it: gristmill run {path}")
    return lines


def _print_removals(store: Storage, recipe: str, *, locations: bool, as_json: bool) -> None:
    entries, models = load_active_removals(store, recipe), command.refresh_exposure(store, recipe)
    held = find_residual(store, recipe, [entry.removal for entry in entries]) if locations else []
    if as_json:
        value: dict[str, Any] = {
            "recipe": recipe,
            "removals": [entry.to_json() for entry in entries],
            "models": [mark.to_json() for mark in models],
        }
        print_json({**value, "residual": [item.to_json() for item in held]} if locations else value)
        return
    for entry in entries:
        note = f"  ({entry.note})" if entry.note else ""
        click.echo(f"{entry.recorded}  {entry.removal}{note}")
    if not entries:
        click.echo(f"nothing is removed from {recipe}")
    for line in (*models, *held):
        click.echo(str(line))
    if locations and not held:
        click.echo("no data set of this store holds any of it")
