"""``gristmill clusters``."""

import os
import shutil
import sys

import click

from cli.common import handle_errors, json_option, print_json, recipe_options
from flows.recipe_loader import load_recipe
from infra.errors import UserError
from infra.runs.run_records import latest_run, with_earlier_results
from infra.store.storage import Storage
from views.duplicates.clusters import DuplicateData, Order, resolve_cluster_id, select_clusters
from views.duplicates.members import MAX_MEMBERS, Cluster, load_clusters
from views.duplicates.render import (
    ANSI,
    MAX_DIFF_LINES,
    PLAIN,
    format_heading,
    format_member,
    preview_members,
    reference_labels,
    to_json,
    with_diffs,
)
from views.duplicates.word_diff import MAX_SHOWN

DEFAULT_LIMIT = 10
DEFAULT_WIDTH, MIN_WIDTH = 100, 40  # columns where output is no terminal, and at least


@click.command()
@recipe_options
@click.option("--largest", is_flag=True, help="the largest clusters; the default")
@click.option("--random", "sample", is_flag=True, help="a random sample, by the recipe's seed")
@click.option("--source", help="only clusters with a document of this source")
@click.option(
    "--cluster", metavar="NAME", help="this cluster in full; the beginning of its name does"
)
@click.option(
    "--limit", type=int, help=f"how many clusters [{DEFAULT_LIMIT}]; of --cluster: members"
)
@click.option("--width", type=int, help="columns of the output")
@json_option
@handle_errors
def clusters(
    path: str,
    storage: str | None,
    overrides: tuple[str, ...],
    largest: bool,
    sample: bool,
    source: str | None,
    cluster: str | None,
    limit: int | None,
    width: int | None,
    as_json: bool,
) -> None:
    """Clusters of copies: who stayed, why the others went, and what differs."""
    if limit is not None and limit < 1:
        raise UserError(f"--limit {limit}: at least 1 is expected")
    if width is not None and width < MIN_WIDTH:
        raise UserError(f"--width {width}: at least {MIN_WIDTH} is expected")
    if largest + sample + (cluster is not None) > 1 or (cluster and source):
        raise UserError(
            "--largest, --random and --cluster exclude each other; so do --cluster and --source"
        )
    recipe = load_recipe(path, overrides, storage)
    store = Storage(recipe.storage)
    record = with_earlier_results(store, latest_run(store, recipe.name))
    copies = DuplicateData.from_run(store, record)
    if cluster is not None:
        names = [resolve_cluster_id(copies, cluster)]
    else:
        order: Order = "random" if sample else "largest"
        names = select_clusters(
            copies, limit or DEFAULT_LIMIT, order, seed=recipe.seed, source=source
        )
    found = load_clusters(copies, names, None if cluster else MAX_MEMBERS)
    if as_json:
        values = []
        for one in found:
            chosen = one.members[:limit] if cluster else preview_members(one)
            longest = None if cluster else MAX_SHOWN
            values.append(to_json(copies, one, list(with_diffs(copies, chosen, max_shown=longest))))
        print_json({"recipe": recipe.name, "run": record.run, "clusters": values})
        return
    if not found:
        where = f" with a document of {source}" if source else ""
        click.echo(f"no two documents{where} are alike")
    for one in found:
        _print_cluster(
            copies, one, width or _terminal_width(), full=cluster is not None, max_members=limit
        )


def _print_cluster(
    duplicates: DuplicateData, cluster: Cluster, width: int, *, full: bool, max_members: int | None
) -> None:
    paint = ANSI if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else PLAIN
    members = cluster.members[:max_members] if full else preview_members(cluster)
    names = reference_labels(duplicates, cluster, members)
    for line in format_heading(cluster):
        click.echo(line)
    for item in with_diffs(duplicates, members, max_shown=None if full else MAX_SHOWN):
        lines = format_member(
            item, names, width=width, style=paint, max_lines=None if full else MAX_DIFF_LINES
        )
        click.echo("\n".join(lines), color=paint is ANSI)
    rest = cluster.documents - len(members)
    if rest:
        more = "" if full else f": --cluster {cluster.id[:8]} shows all"
        click.echo(f"  … {rest:,} more{more}")
    click.echo()


def _terminal_width() -> int:
    if not sys.stdout.isatty():
        return DEFAULT_WIDTH
    return max(MIN_WIDTH, shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns)
