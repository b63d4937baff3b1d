"""``gristmill remove``."""

from typing import Any

import click

from cli.common import guarded, json_option, recipe_options, show
from flows.recipe import load
from infra.errors import UserError
from infra.removals.log import in_force
from infra.removals.match import KINDS, Removal, removal
from infra.store.storage import Storage
from views.removal import apply as command
from views.removal.residue import holders

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
@click.option("--undo", is_flag=True, help="lift these removals instead")
@click.option("--list", "as_list", is_flag=True, help="show what is removed, and do nothing")
@click.option("--where", is_flag=True, help="with --list: which data sets still hold it")
@json_option
@guarded
def remove(
    path: str,
    storage: str | None,
    overrides: tuple[str, ...],
    note: str | None,
    undo: bool,
    as_list: bool,
    where: bool,
    as_json: bool,
    **values: tuple[str, ...],
) -> None:
    """Take documents out of a recipe for good; the next run applies it everywhere.

    Every option that names documents may be given several times.
    """
    recipe = load(path, overrides, storage)
    store = Storage(recipe.storage)
    wanted = [removal(kind, value) for kind in KINDS for value in values[kind]]
    if as_list:
        if wanted or undo:
            raise UserError(
                "--list shows all that is removed; it goes with --where and --json only"
            )
        _list(store, recipe.name, where=where, as_json=as_json)
        return
    if where:
        raise UserError("--where goes with --list")
    if not wanted:
        kinds = ", ".join(f"--{kind}" for kind in KINDS)
        raise UserError(f"nothing to remove: give one of {kinds}, or --list")
    done = (command.undo if undo else command.remove)(store, recipe.name, wanted, note)
    if as_json:
        show(
            {
                "recipe": recipe.name,
                "lifted" if undo else "recorded": [item.facts() for item in done.new],
                "reached": [item.to_json() for item in done.reached],
                "removals": [entry.to_json() for entry in in_force(store, recipe.name)],
                "models": [mark.to_json() for mark in done.models],
            }
        )
        return
    for line in _told(path, wanted, done, undo=undo):
        click.echo(line)


def _told(path: str, wanted: list[Removal], done: command.Done, *, undo: bool) -> list[str]:
    lines = [str(item) for item in done.reached]
    if not undo and not done.reached:
        lines += [f"{item}: there is no run yet that it could be compared with" for item in wanted]
    old = [item for item in wanted if item not in done.new]
    lines += [f"{item}: was removed before" for item in old]
    lines += [str(mark) for mark in done.models]
    if done.new:
        verb = "lifted" if undo else "recorded"
        lines.append(f"{verb}; the next run applies it: gristmill run {path}")
    return lines


def _list(store: Storage, recipe: str, *, where: bool, as_json: bool) -> None:
    entries, models = in_force(store, recipe), command.marks(store, recipe)
    held = holders(store, recipe, [entry.removal for entry in entries]) if where else []
    if as_json:
        value: dict[str, Any] = {
            "recipe": recipe,
            "removals": [entry.to_json() for entry in entries],
            "models": [mark.to_json() for mark in models],
        }
        show({**value, "held": [item.to_json() for item in held]} if where else value)
        return
    for entry in entries:
        note = f"  ({entry.note})" if entry.note else ""
        click.echo(f"{entry.recorded}  {entry.removal}{note}")
    if not entries:
        click.echo(f"nothing is removed from {recipe}")
    for line in (*models, *held):
        click.echo(str(line))
    if where and not held:
        click.echo("no data set of this store holds any of it")
