"""``gristmill clusters``: print clusters of near-duplicates with their differences."""

import os
import shutil
import sys
from typing import TYPE_CHECKING

import click

from cli.common import print_json, recipe_command
from infra.errors import UserError

if TYPE_CHECKING:
    from flows.recipe import Recipe
    from infra.store.storage import Storage
    from views.duplicates.clusters import DuplicateData
    from views.duplicates.members import Cluster

DEFAULT_LIMIT = 10
DEFAULT_WIDTH, MIN_WIDTH = 100, 40  # columns: if the output is no terminal; the minimum


@recipe_command
@click.option("--largest", is_flag=True, help="the largest clusters (default)")
@click.option("--random", "sample", is_flag=True, help="a random sample, by the recipe's seed")
@click.option("--source", help="only clusters with a document of this source")
@click.option(
    "--cluster",
    "cluster_id",
    metavar="ID",
    help="this cluster in full; the beginning of its id is enough",
)
@click.option(
    "--limit", type=int, help=f"number of clusters [{DEFAULT_LIMIT}]; with --cluster: of members"
)
@click.option("--width", type=int, help="columns of the output")
def clusters(
    recipe: "Recipe",
    store: "Storage",
    largest: bool,
    sample: bool,
    source: str | None,
    cluster_id: str | None,
    limit: int | None,
    width: int | None,
    as_json: bool,
) -> None:
    """Show clusters of duplicates: which were kept, why others were dropped, what differs."""
    if limit is not None and limit < 1:
        raise UserError(f"--limit {limit}: at least 1 is expected")
    if width is not None and width < MIN_WIDTH:
        raise UserError(f"--width {width}: at least {MIN_WIDTH} is expected")
    if largest + sample + (cluster_id is not None) > 1 or (cluster_id and source):
        raise UserError(
            "--largest, --random and --cluster exclude each other; so do --cluster and --source"
        )
    from flows.steps import STEPS
    from infra.runs.run_records import latest_results
    from views.duplicates.clusters import DuplicateData, resolve_cluster_id, select_clusters
    from views.duplicates.members import MAX_MEMBERS, load_clusters
    from views.duplicates.render import preview_members, to_json, with_diffs
    from views.duplicates.word_diff import MAX_SHOWN

    record = latest_results(store, recipe.name)
    duplicates = DuplicateData.from_run(store, record, STEPS)
    full = cluster_id is not None
    if cluster_id is not None:
        ids = [resolve_cluster_id(duplicates, cluster_id)]
    else:
        ids = select_clusters(
            duplicates,
            limit or DEFAULT_LIMIT,
            "random" if sample else "largest",
            seed=recipe.seed,
            source=source,
        )
    selected = load_clusters(duplicates, ids, None if full else MAX_MEMBERS)
    if as_json:
        values = []
        for cluster in selected:
            members = cluster.members[:limit] if full else preview_members(cluster)
            diffs = with_diffs(duplicates, members, max_shown=None if full else MAX_SHOWN)
            values.append(to_json(duplicates, cluster, list(diffs)))
        print_json({"recipe": recipe.name, "run": record.run, "clusters": values})
        return
    if not selected:
        of_source = f" with a document of {source}" if source else ""
        click.echo(f"there is no cluster of duplicates{of_source}")
    for cluster in selected:
        _print_cluster(
            duplicates, cluster, width or _terminal_width(), full=full, max_members=limit
        )


def _print_cluster(
    duplicates: "DuplicateData",
    cluster: "Cluster",
    width: int,
    *,
    full: bool,
    max_members: int | None,
) -> None:
    from views.duplicates.render import (
        ANSI,
        MAX_DIFF_LINES,
        PLAIN,
        format_heading,
        format_member,
        preview_members,
        reference_labels,
        with_diffs,
    )
    from views.duplicates.word_diff import MAX_SHOWN

    style = ANSI if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else PLAIN
    members = cluster.members[:max_members] if full else preview_members(cluster)
    labels = reference_labels(duplicates, cluster, members)
    for line in format_heading(cluster):
        click.echo(line)
    for member in with_diffs(duplicates, members, max_shown=None if full else MAX_SHOWN):
        lines = format_member(
            member, labels, width=width, style=style, max_lines=None if full else MAX_DIFF_LINES
        )
        click.echo("\n".join(lines), color=style is ANSI)
    rest = cluster.documents - len(members)
    if rest:
        more = "" if full else f": --cluster {cluster.id[:8]} shows all"
        click.echo(f"  … {rest:,} more{more}")
    click.echo()


def _terminal_width() -> int:
    if not sys.stdout.isatty():
        return DEFAULT_WIDTH
    return max(MIN_WIDTH, shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns)
