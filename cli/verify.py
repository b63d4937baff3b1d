"""``gristmill verify``."""

import click

from cli.common import handle_errors, json_option, print_json, recipe_options
from flows.recipe_loader import load_recipe
from flows.steps import STEPS
from infra.runs.run_records import latest_run, with_earlier_results
from infra.store.storage import Storage
from views.verify.verify import verify_run

# Exit status; 1 is any other failure, 2 is click's for a wrong command line.
EXIT_VERIFY_FAILED = 3


@click.command()
@recipe_options
@json_option
@handle_errors
def verify(path: str, storage: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Re-count and re-hash every committed data set of the recipe."""
    recipe = load_recipe(path, overrides, storage)
    store = Storage(recipe.storage)
    record = with_earlier_results(store, latest_run(store, recipe.name))
    result = verify_run(store, record, STEPS)
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
