"""``gristmill verify``."""

from typing import TYPE_CHECKING

import click

from cli.common import print_json, recipe_command
from infra.errors import UserError

if TYPE_CHECKING:
    from flows.recipe import Recipe
    from infra.store.storage import Storage
    from views.verify.verify import VerifyResult

# Exit status; 1 is any other failure, 2 is click's for a wrong command line.
EXIT_VERIFY_FAILED = 3


@recipe_command
@click.option(
    "--release",
    "folder",
    metavar="FOLDER",
    help="check a folder that `gristmill release` wrote, instead of the store's data sets",
)
@click.option(
    "--public-key", metavar="FILE", help="with --release: who must have signed it, a key in PEM"
)
def verify(
    recipe: "Recipe", store: "Storage", folder: str | None, public_key: str | None, as_json: bool
) -> None:
    """Re-count and re-hash every committed data set of the recipe, or a released folder."""
    if folder is None and public_key is not None:
        raise UserError("--public-key requires --release")
    result = _verify(recipe, store) if folder is None else _check(recipe, store, folder, public_key)
    totals = {"datasets": result.datasets, "files": result.files, "bytes": result.bytes}
    if as_json:
        findings = [finding.to_json() for finding in result.findings]
        print_json({"recipe": recipe.name, "ok": result.ok, **totals, "findings": findings})
    else:
        for finding in result.findings:
            click.echo(str(finding))
        what = f"{result.datasets} data sets" if folder is None else folder
        click.echo(
            f"verification {'passed' if result.ok else 'failed'}: {what}, "
            f"{result.files} files, {result.bytes:,} bytes checked"
        )
    if not result.ok:
        raise SystemExit(EXIT_VERIFY_FAILED)


def _verify(recipe: "Recipe", store: "Storage") -> "VerifyResult":
    from flows.steps import STEPS
    from infra.runs.run_records import latest_results
    from views.verify.verify import verify_run

    return verify_run(store, latest_results(store, recipe.name), STEPS)


def _check(
    recipe: "Recipe", store: "Storage", folder: str, public_key: str | None
) -> "VerifyResult":
    from infra.store.storage import Storage
    from views.publish.check import check_folder
    from views.publish.signature import load_public_key

    key = None if public_key is None else load_public_key(public_key)
    return check_folder(store, recipe.name, Storage(folder), key)
