"""``gristmill verify``."""

from typing import TYPE_CHECKING

import click

from cli.common import print_json, recipe_command

if TYPE_CHECKING:
    from flows.recipe import Recipe
    from infra.store.storage import Storage

# Exit status; 1 is any other failure, 2 is click's for a wrong command line.
EXIT_VERIFY_FAILED = 3


@recipe_command
def verify(recipe: "Recipe", store: "Storage", as_json: bool) -> None:
    """Re-count and re-hash every committed data set of the recipe."""
    from flows.steps import STEPS
    from infra.runs.run_records import latest_results
    from views.verify.verify import verify_run

    result = verify_run(store, latest_results(store, recipe.name), STEPS)
    totals = {"datasets": result.datasets, "files": result.files, "bytes": result.bytes}
    if as_json:
        findings = [finding.to_json() for finding in result.findings]
        print_json({"recipe": recipe.name, "ok": result.ok, **totals, "findings": findings})
    else:
        for finding in result.findings:
            click.echo(str(finding))
        click.echo(
            f"verification {'passed' if result.ok else 'failed'}: {result.datasets} data sets, "
            f"{result.files} files, {result.bytes:,} bytes checked"
        )
    if not result.ok:
        raise SystemExit(EXIT_VERIFY_FAILED)
