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
from cli.common import guarded, json_option, recipe_options, show
from cli.lsh_curve import bands
from cli.remove import remove
from cli.trace import trace
from cli.train_node import join
from flows.recipe import STAGES, Recipe, StageName, load
from infra.errors import UserError
from infra.runs.run_records import COMPLETED, NoRun, RunRecord, extended, latest, new_run_id
from infra.store.storage import Storage
from views.removal.exposure import marked

if TYPE_CHECKING:
    from flows.farewell import Leave

# Before Prefect is imported: no telemetry, no prompts, quiet in the terminal, our logs in its UI.
ENVIRONMENT = {
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
PROBLEMS = 3  # exit status; 1 is any other failure, 2 is click's, for a command line that is none

SERVER_PATIENCE = 10.0  # seconds to wait for a Prefect server to say that it is there

log = logging.getLogger(__name__)


@contextmanager
def output_kept_clean() -> Iterator[Callable[[], None]]:
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
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


@main.command()
@recipe_options
@click.option(
    "--until", type=click.Choice(STAGES), default=STAGES[-1], help="stop after this stage"
)
@json_option
@guarded
def run(
    path: str, storage: str | None, overrides: tuple[str, ...], until: StageName, as_json: bool
) -> None:
    """Walk the whole road; what is committed already is not done again."""
    recipe = load(path, overrides, storage)
    with output_kept_clean() as restore:

        def leave(record: RunRecord, error: BaseException | None) -> NoReturn:
            restore()
            _leave(lambda: _tell(recipe, record.to_json(), as_json), error)

        record = _run(recipe, until, leave)
    _tell(recipe, record, as_json)


def _tell(recipe: Recipe, record: dict[str, Any], as_json: bool) -> None:
    """What a run made, on standard output."""
    public = _public(recipe, record)
    models = [mark for mark in marked(Storage(recipe.storage), recipe.name) if mark.documents]
    for mark in models:
        click.echo(str(mark), err=True)
    if as_json:
        show({**public, "saw_removed": [mark.to_json() for mark in models]})
    else:
        click.echo(public["report"])


def _leave(tell: Callable[[], None], error: BaseException | None) -> NoReturn:
    """End this process at once, as it would have ended in the end."""

    def conclude() -> None:
        if error is not None:
            raise error
        tell()

    click.echo("no Prefect server answers any more: it was not told how the run ended", err=True)
    status = 0
    try:
        guarded(conclude)()
    except SystemExit as exiting:
        status = int(exiting.code or 0)
    except BaseException:  # noqa: BLE001 - the interpreter, which would print it, is left behind
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _run(recipe: Recipe, until: StageName, leave: "Leave") -> dict[str, Any]:
    if not os.environ.get("PREFECT_API_URL"):
        from flows.preflight import plan, require_machine

        # Nothing to do needs no server: ask the store first.
        planner = plan(recipe, until)
        require_machine(recipe, until, lambda: planner)
        paths = [step.folder for step in planner.steps]
        record = _last(recipe)
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
        _reach(os.environ["PREFECT_API_URL"])
    from flows.farewell import leave_if_unserved
    from flows.pipeline import pipeline
    from flows.prefect_server import serve_this_process

    leave_if_unserved(leave)
    serve_this_process()
    began = new_run_id()
    try:
        return dict(pipeline(recipe, until))
    except UserError:
        raise
    except Exception as error:
        # The store decides what is done: a server that went away takes the history, not the work.
        record = _last(recipe)
        if record is None or record.run < began or record.report is None:
            raise
        if record.state != COMPLETED:
            raise
        log.warning("the run is complete, but Prefect's server was not told: %r", error)
        return record.to_json()


def _reach(api: str) -> None:
    """Raise ``UserError`` unless a Prefect server answers."""
    import httpx

    try:
        httpx.get(f"{api.rstrip('/')}/health", timeout=SERVER_PATIENCE)
    except httpx.HTTPError as error:
        message = (
            f"no Prefect server answers at {api} ({error}); start it, or unset PREFECT_API_URL"
        )
        raise UserError(message) from None


def _last(recipe: Recipe) -> RunRecord | None:
    try:
        return latest(Storage(recipe.storage), recipe.name)
    except NoRun:
        return None


def _public(recipe: Recipe, record: dict[str, Any]) -> dict[str, Any]:
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
@click.option("--until", type=click.Choice(STAGES), default=STAGES[-1], help="up to this stage")
@json_option
@guarded
def plan(
    path: str, storage: str | None, overrides: tuple[str, ...], until: StageName, as_json: bool
) -> None:
    """What would run, what is already there, and why; then what keeps this machine from it."""
    from flows.preflight import faults, plan

    recipe = load(path, overrides, storage)
    planner = plan(recipe, until)
    lacks = [str(fault) for fault in faults(recipe, until, lambda: planner)]
    steps = [
        {
            "stage": step.step,
            "source": step.source,
            "entry": step.entry,
            "path": step.folder and f"{recipe.storage.rstrip('/')}/{step.folder}",
            "state": "there" if step.dataset is not None else "run",
            "why": step.why,
        }
        for step in planner.steps
    ]
    if as_json:
        show({"recipe": recipe.name, "steps": steps, "faults": lacks})
        return
    for step in steps:
        name = " ".join(filter(None, (step["stage"], step["source"] or step["entry"])))
        click.echo(f"{step['state']:<6} {name:<28} {step['why']}")
    for fault in lacks:
        click.echo(f"`gristmill run` would be refused on this machine: {fault}")


def _record_of(recipe: Recipe) -> RunRecord:
    """The newest run of a recipe. Raises ``NoRun``."""
    return latest(Storage(recipe.storage), recipe.name)


@main.command()
@recipe_options
@json_option
@guarded
def verify(path: str, storage: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Re-count and re-hash every committed data set of the recipe."""
    from views.verify.verify import check

    recipe = load(path, overrides, storage)
    store = Storage(recipe.storage)
    checked = check(store, extended(store, _record_of(recipe)))
    looked_at = {"datasets": checked.datasets, "files": checked.files, "bytes": checked.bytes}
    if as_json:
        found = [problem.to_json() for problem in checked.problems]
        show({"recipe": recipe.name, "ok": checked.ok, **looked_at, "problems": found})
    else:
        for problem in checked.problems:
            click.echo(str(problem))
        verdict = "every promise holds" if checked.ok else "promises are broken"
        click.echo(
            f"{verdict}: {checked.datasets} data sets, {checked.files} files, "
            f"{checked.bytes:,} bytes looked at"
        )
    if not checked.ok:
        raise SystemExit(PROBLEMS)


@main.command()
@click.argument("url_or_id")
@click.option("--storage", default="./data", show_default=True, help="root of the store")
@json_option
@guarded
def why(url_or_id: str, storage: str, as_json: bool) -> None:
    """A document's whole story: fetched, judged, tokenized, learned from."""
    from lm.data.sampler import steps_that_saw
    from views.history.document_history import story

    told = story(Storage(storage), url_or_id, steps=steps_that_saw)
    if as_json:
        show(told.to_json())
    else:
        click.echo(told.text())


@main.command()
@recipe_options
@click.option("--stage", help="only what this stage dropped or failed")
@click.option("--reason", help="only what went for this reason")
@click.option("-n", "count", default=10, show_default=True, help="how many samples")
@json_option
@guarded
def drops(
    path: str,
    storage: str | None,
    overrides: tuple[str, ...],
    stage: str | None,
    reason: str | None,
    count: int,
    as_json: bool,
) -> None:
    """Samples of what was dropped or failed, with the reason and the evidence."""
    from views.documents.dropped import drops as sample

    recipe = load(path, overrides, storage)
    store = Storage(recipe.storage)
    found = sample(store, extended(store, _record_of(recipe)), stage, reason, count)
    if as_json:
        show({"recipe": recipe.name, "drops": [drop.to_json() for drop in found]})
    else:
        for drop in found:
            click.echo(drop.text() + "\n")


@main.command()
@recipe_options
@json_option
@guarded
def report(path: str, storage: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Build the report page of the latest run again."""
    from views.report import build_report

    recipe = load(path, overrides, storage)
    url = build_report(Storage(recipe.storage), _record_of(recipe))
    if as_json:
        show({"recipe": recipe.name, "report": url})
    else:
        click.echo(url)


main.add_command(remove)
main.add_command(clusters)
main.add_command(bands)
main.add_command(trace)
main.add_command(join)
