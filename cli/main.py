"""``gristmill``: a thin layer over flows and data sets.

Every command takes ``--json``, exits non-zero on failure, and says of an error what was wrong,
where, and what to do.
"""

import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import click

from cli.clusters import clusters
from cli.common import handle_errors, json_option, print_json, recipe_options
from cli.lsh_curve import lsh_curve
from cli.remove import remove
from cli.trace import trace
from cli.train_node import train_node
from flows.recipe import Recipe, load_recipe
from flows.steps import LAST_STAGE, STAGE_NAMES, StageName
from infra.errors import UserError
from infra.runs.run_records import (
    COMPLETED,
    RunNotFoundError,
    RunRecord,
    latest_run,
    new_run_id,
    with_earlier_results,
)
from infra.store.storage import Storage
from views.removal.exposure import load_exposure

if TYPE_CHECKING:
    from flows.farewell import ExitHandler

# Before Prefect is imported: no telemetry, no prompts, quiet in the terminal, our logs in its UI.
DEFAULT_ENV = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
    # The server that Prefect starts for a run without one needs half a minute on a busy machine.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "cli,flows,views,tasks,lm,infra",
}
EXIT_VERIFY_FAILED = (
    3  # exit status; 1 is any other failure, 2 is click's, for a command line that is none
)

SERVER_TIMEOUT_S = 10.0  # seconds to wait for a Prefect server to say that it is there

log = logging.getLogger(__name__)


@contextmanager
def redirect_stdout_to_stderr() -> Iterator[Callable[[], None]]:
    """While a run goes on, whatever is written to standard output goes to standard error.

    Yields:
        What ends this before the block does.
    """
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)

    def restore() -> None:
        sys.stdout.flush()
        os.dup2(saved, 1)

    try:
        yield restore
    finally:
        restore()
        os.close(saved)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gristmill")
def main() -> None:
    """From web pages and books to a trained, evaluated and released language model."""
    for name, value in DEFAULT_ENV.items():
        os.environ.setdefault(name, value)


@main.command()
@recipe_options
@click.option(
    "--until", type=click.Choice(STAGE_NAMES), default=LAST_STAGE, help="stop after this stage"
)
@json_option
@handle_errors
def run(
    path: str, storage: str | None, overrides: tuple[str, ...], until: StageName, as_json: bool
) -> None:
    """Walk the whole road; what is committed already is not done again."""
    recipe = load_recipe(path, overrides, storage)
    with redirect_stdout_to_stderr() as restore:

        def leave(record: RunRecord, error: BaseException | None) -> NoReturn:
            restore()
            _exit_now(lambda: _print_result(recipe, record.to_json(), as_json), error)

        record = _run_pipeline(recipe, until, leave)
    _print_result(recipe, record, as_json)


def _print_result(recipe: Recipe, record: dict[str, Any], as_json: bool) -> None:
    """What a run made, on standard output."""
    public = _run_json(recipe, record)
    models = [
        mark for mark in load_exposure(Storage(recipe.storage), recipe.name) if mark.documents
    ]
    for mark in models:
        click.echo(str(mark), err=True)
    if as_json:
        print_json({**public, "models_exposed": [mark.to_json() for mark in models]})
    else:
        click.echo(public["report"])


def _exit_now(print_result: Callable[[], None], error: BaseException | None) -> NoReturn:
    """End this process at once, as it would have ended in the end."""

    def conclude() -> None:
        if error is not None:
            raise error
        print_result()

    click.echo("no Prefect server answers any more: it was not told how the run ended", err=True)
    status = 0
    try:
        handle_errors(conclude)()
    except SystemExit as exiting:
        status = int(exiting.code or 0)
    except BaseException:  # noqa: BLE001 - the interpreter, which would print it, is left behind
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _run_pipeline(recipe: Recipe, until: StageName, exit_handler: "ExitHandler") -> dict[str, Any]:
    if not os.environ.get("PREFECT_API_URL"):
        from flows.planner import plan_pipeline
        from flows.preflight import check_machine

        # Nothing to do needs no server: ask the store first.
        planner = plan_pipeline(recipe, until)
        check_machine(recipe, until, lambda: planner)
        paths = [step.folder for step in planner.steps]
        record = _find_latest_run(recipe)
        if (
            planner.complete
            and record is not None
            and record.state == COMPLETED
            and [stage.path for stage in record.stages] == paths
            and record.report is not None
            and Storage(recipe.storage).exists(record.report)
        ):
            click.echo(f"nothing to do: all {len(paths)} data sets are already there", err=True)
            found = [replace(stage, seconds=0.0, cached=True) for stage in record.stages]
            return replace(record, stages=found).to_json()
    else:
        _require_server(os.environ["PREFECT_API_URL"])
    from flows.farewell import exit_when_server_lost
    from flows.pipeline import pipeline
    from flows.prefect_server import start_ephemeral_server

    exit_when_server_lost(exit_handler)
    start_ephemeral_server()
    began = new_run_id()
    try:
        return dict(pipeline(recipe, until))
    except UserError:
        raise
    except Exception as error:
        # The store decides what is done: a server that went away takes the history, not the work.
        record = _find_latest_run(recipe)
        if record is None or record.run < began or record.report is None:
            raise
        if record.state != COMPLETED:
            raise
        log.warning("the run is complete, but Prefect's server was not told: %r", error)
        return record.to_json()


def _require_server(api_url: str) -> None:
    """Raise ``UserError`` unless a Prefect server answers."""
    import httpx

    try:
        httpx.get(f"{api_url.rstrip('/')}/health", timeout=SERVER_TIMEOUT_S)
    except httpx.HTTPError as error:
        message = (
            f"no Prefect server answers at {api_url} ({error}); start it, or unset PREFECT_API_URL"
        )
        raise UserError(message) from None


def _find_latest_run(recipe: Recipe) -> RunRecord | None:
    try:
        return latest_run(Storage(recipe.storage), recipe.name)
    except RunNotFoundError:
        return None


def _run_json(recipe: Recipe, record: dict[str, Any]) -> dict[str, Any]:
    """The record as ``run --json`` prints it: paths that can be opened as they stand."""
    root = recipe.storage.rstrip("/")

    def full(path: str | None) -> str | None:
        return None if path is None else f"{root}/{path}"

    keys = ("stage", "source", "entry", "fingerprint", "in", "kept", "dropped", "failed", "seconds")
    return {
        "recipe": record["recipe"],
        "run": record["run"],
        "report": full(record["report"]),
        "stages": [
            {
                **{key: stage[key] for key in keys},
                "path": full(stage["path"]),
                "cached": stage["cached"],
            }
            for stage in record["stages"]
        ],
        "models": [
            {"name": model["name"], "export": full(model["release"]), "metrics": model["metrics"]}
            for model in record["models"]
        ],
    }


@main.command()
@recipe_options
@click.option(
    "--until", type=click.Choice(STAGE_NAMES), default=LAST_STAGE, help="up to this stage"
)
@json_option
@handle_errors
def plan(
    path: str, storage: str | None, overrides: tuple[str, ...], until: StageName, as_json: bool
) -> None:
    """What would run, what is already there, and why; then what keeps this machine from it."""
    from flows.planner import plan_pipeline
    from flows.preflight import preflight_errors

    recipe = load_recipe(path, overrides, storage)
    planner = plan_pipeline(recipe, until)
    lacks = [str(fault) for fault in preflight_errors(recipe, until, lambda: planner)]
    steps = [
        {
            "stage": step.step,
            "source": step.source,
            "entry": step.entry,
            "path": step.folder and f"{recipe.storage.rstrip('/')}/{step.folder}",
            "state": "cached" if step.dataset is not None else "pending",
            "why": step.why,
        }
        for step in planner.steps
    ]
    if as_json:
        print_json({"recipe": recipe.name, "steps": steps, "errors": lacks})
        return
    for step in steps:
        name = " ".join(filter(None, (step["stage"], step["source"] or step["entry"])))
        click.echo(f"{step['state']:<7} {name:<28} {step['why']}")
    for fault in lacks:
        click.echo(f"`gristmill run` would be refused on this machine: {fault}")


def _latest_run(recipe: Recipe) -> RunRecord:
    """The newest run of a recipe. Raises ``NoRun``."""
    return latest_run(Storage(recipe.storage), recipe.name)


@main.command()
@recipe_options
@json_option
@handle_errors
def verify(path: str, storage: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Re-count and re-hash every committed data set of the recipe."""
    from views.verify.verify import verify_run

    recipe = load_recipe(path, overrides, storage)
    store = Storage(recipe.storage)
    checked = verify_run(store, with_earlier_results(store, _latest_run(recipe)))
    looked_at = {"datasets": checked.datasets, "files": checked.files, "bytes": checked.bytes}
    if as_json:
        found = [problem.to_json() for problem in checked.findings]
        print_json({"recipe": recipe.name, "ok": checked.ok, **looked_at, "findings": found})
    else:
        for problem in checked.findings:
            click.echo(str(problem))
        verdict = "verification passed" if checked.ok else "verification failed"
        click.echo(
            f"{verdict}: {checked.datasets} data sets, {checked.files} files, "
            f"{checked.bytes:,} bytes looked at"
        )
    if not checked.ok:
        raise SystemExit(EXIT_VERIFY_FAILED)


@main.command()
@click.argument("url_or_id")
@click.option("--storage", default="./data", show_default=True, help="root of the store")
@json_option
@handle_errors
def why(url_or_id: str, storage: str, as_json: bool) -> None:
    """A document's whole story: fetched, judged, tokenized, learned from."""
    from lm.data.sampler import steps_containing
    from views.history.document_history import document_history

    told = document_history(Storage(storage), url_or_id, step_lookup=steps_containing)
    if as_json:
        print_json(told.to_json())
    else:
        click.echo(told.to_text())


@main.command()
@recipe_options
@click.option("--stage", help="only what this stage dropped or failed")
@click.option("--reason", help="only what went for this reason")
@click.option("--limit", default=10, show_default=True, help="how many samples")
@json_option
@handle_errors
def dropped(
    path: str,
    storage: str | None,
    overrides: tuple[str, ...],
    stage: str | None,
    reason: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Samples of what was dropped or failed, with the reason and the evidence."""
    from views.documents.dropped import sample_dropped as sample

    recipe = load_recipe(path, overrides, storage)
    store = Storage(recipe.storage)
    found = sample(store, with_earlier_results(store, _latest_run(recipe)), stage, reason, limit)
    if as_json:
        print_json({"recipe": recipe.name, "dropped": [drop.to_json() for drop in found]})
    else:
        for drop in found:
            click.echo(drop.to_text() + "\n")


@main.command()
@recipe_options
@json_option
@handle_errors
def report(path: str, storage: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Build the report page of the latest run again."""
    from views.report import build_report

    recipe = load_recipe(path, overrides, storage)
    url = build_report(Storage(recipe.storage), _latest_run(recipe))
    if as_json:
        print_json({"recipe": recipe.name, "report": url})
    else:
        click.echo(url)


main.add_command(remove)
main.add_command(clusters)
main.add_command(lsh_curve)
main.add_command(trace)
main.add_command(train_node)
