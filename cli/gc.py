"""``gristmill gc``."""

import click

from cli.common import handle_errors, json_option, load_recipes, print_json


@click.command()
@click.argument("paths", metavar="RECIPE...", nargs=-1, required=True)
@click.option("--storage", help="override the recipes' storage")
@click.option("--dry-run", is_flag=True, help="list what would be deleted, and delete nothing")
@json_option
@handle_errors
def gc(paths: tuple[str, ...], storage: str | None, dry_run: bool, as_json: bool) -> None:
    """Delete what the latest runs of the named recipes do not need.

    Name every recipe of the store that is to stay: data sets that only other recipes need are
    deleted. What a running run uses stays in any case.
    """
    from infra.compute.jit import kernel_folder
    from infra.runs.gc import collect_needed, delete_unneeded, find_deletions
    from infra.store.cache_dir import delete_stale, find_stale
    from infra.store.storage import Storage

    recipes = load_recipes(paths, storage)
    store, names = (
        Storage(recipes[0].storage),
        [name for recipe in recipes for name in recipe.run_names],
    )
    needed = collect_needed(store, names)
    deletions = find_deletions(store, needed) if dry_run else delete_unneeded(store, names)
    caches = find_stale(kernel_folder())
    if not dry_run:
        delete_stale(caches)
    total = sum(deletion.bytes for deletion in deletions) + sum(caches.values())
    if as_json:
        local = [{"path": str(path), "bytes": size} for path, size in sorted(caches.items())]
        print_json(
            {
                "dry_run": dry_run,
                "kept": sorted(needed.datasets),
                "recipes": sorted(needed.recipes),
                "other_recipes": sorted(needed.others),
                "deleted": [deletion.to_json() for deletion in deletions],
                "local_caches": local,
                "bytes": total,
            }
        )
        return
    for deletion in deletions:
        click.echo(f"{deletion.bytes:>15,}  {deletion.kind}: {deletion.path}")
    for path, size in sorted(caches.items()):
        click.echo(f"{size:>15,}  cache of this machine: {path}")
    if needed.others:
        click.echo(
            f"not kept for: {', '.join(sorted(needed.others))} (recipes that were not named)"
        )
    click.echo(f"{'would free' if dry_run else 'freed'} {total:,} bytes in {store.url}")
