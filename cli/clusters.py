"""``gristmill clusters``."""

import os
import shutil
import sys

import click

from cli.common import guarded, json_option, recipe_options, show
from flows.recipe import load
from infra.errors import UserError
from infra.runs.run_records import extended, latest
from infra.store.storage import Storage
from views.duplicates.clusters import Copies, Order, named, pick
from views.duplicates.members import MOST, Cluster
from views.duplicates.members import load as load_clusters
from views.duplicates.render import (
    COLOURED,
    LINES,
    PLAIN,
    compared,
    heading,
    heads,
    paragraph,
    shown,
    to_json,
)
from views.duplicates.word_diff import LONGEST

CLUSTERS = 10
WIDTH, NARROWEST = 100, 40  # columns where output is no terminal, and at least


@click.command()
@recipe_options
@click.option("--largest", is_flag=True, help="the largest clusters; the default")
@click.option("--random", "sample", is_flag=True, help="a random sample, by the recipe's seed")
@click.option("--source", help="only clusters with a document of this source")
@click.option(
    "--cluster", metavar="NAME", help="this cluster in full; the beginning of its name does"
)
@click.option(
    "-n", "count", type=int, help=f"how many clusters [{CLUSTERS}]; of --cluster: members"
)
@click.option("--width", type=int, help="columns of the output")
@json_option
@guarded
def clusters(
    path: str,
    storage: str | None,
    overrides: tuple[str, ...],
    largest: bool,
    sample: bool,
    source: str | None,
    cluster: str | None,
    count: int | None,
    width: int | None,
    as_json: bool,
) -> None:
    """Clusters of copies: who stayed, why the others went, and what differs."""
    if count is not None and count < 1:
        raise UserError(f"-n {count}: at least 1 is expected")
    if width is not None and width < NARROWEST:
        raise UserError(f"--width {width}: at least {NARROWEST} is expected")
    if largest + sample + (cluster is not None) > 1 or (cluster and source):
        raise UserError(
            "--largest, --random and --cluster exclude each other; so do --cluster and --source"
        )
    recipe = load(path, overrides, storage)
    store = Storage(recipe.storage)
    record = extended(store, latest(store, recipe.name))
    copies = Copies.of(store, record)
    if cluster is not None:
        names = [named(copies, cluster)]
    else:
        order: Order = "random" if sample else "largest"
        names = pick(copies, count or CLUSTERS, order, seed=recipe.seed, source=source)
    found = load_clusters(copies, names, None if cluster else MOST)
    if as_json:
        values = []
        for one in found:
            chosen = one.members[:count] if cluster else shown(one)
            longest = None if cluster else LONGEST
            values.append(to_json(copies, one, list(compared(copies, chosen, longest=longest))))
        show({"recipe": recipe.name, "run": record.run, "clusters": values})
        return
    if not found:
        where = f" with a document of {source}" if source else ""
        click.echo(f"no two documents{where} are alike")
    for one in found:
        _tell(copies, one, width or _width(), whole=cluster is not None, most=count)


def _tell(copies: Copies, one: Cluster, width: int, *, whole: bool, most: int | None) -> None:
    paint = COLOURED if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else PLAIN
    members = one.members[:most] if whole else shown(one)
    names = heads(copies, one, members)
    for line in heading(one):
        click.echo(line)
    for item in compared(copies, members, longest=None if whole else LONGEST):
        lines = paragraph(item, names, width=width, paint=paint, lines=None if whole else LINES)
        click.echo("\n".join(lines), color=paint is COLOURED)
    rest = one.documents - len(members)
    if rest:
        more = "" if whole else f": --cluster {one.name[:8]} shows all"
        click.echo(f"  … {rest:,} more{more}")
    click.echo()


def _width() -> int:
    if not sys.stdout.isatty():
        return WIDTH
    return max(NARROWEST, shutil.get_terminal_size((WIDTH, 24)).columns)
