"""``gristmill run``."""

import contextlib
import importlib
import io
import logging
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import click

from cli.common import handle_errors, print_json, print_message, recipe_command, until_option
from cli.interrupts import clean_up_on_interrupt
from infra.errors import UserError

if TYPE_CHECKING:
    from flows.prefect_server import ExitHandler
    from flows.recipe import Recipe
    from infra.runs.run_records import RunRecord
    from infra.store.storage import Storage

# For how long the Prefect server of a run stays for the next one; by default only in a terminal.
KEEP_SERVER_ENV, KEEP_SERVER_S = "GRISTMILL_KEEP_SERVER_S", 300.0
SERVER_TIMEOUT_S = 60.0  # seconds to wait for the Prefect server's first answer

log = logging.getLogger(__name__)


@recipe_command
@until_option
def run(recipe: "Recipe", store: "Storage", until: str, as_json: bool) -> None:
    """Run the whole pipeline; what is committed already is not done again."""
    from infra.compute.processes import end_on_hangup

    end_on_hangup()
    with redirect_stdout_to_stderr() as restore:

        def exit_process(record: "RunRecord", error: BaseException | None) -> NoReturn:
            restore()
            exit_now(lambda: _print_result(store, record, as_json), error)

        record = _run_pipeline(recipe, store, until, exit_process)
    _print_result(store, record, as_json)


@contextlib.contextmanager
def redirect_stdout_to_stderr() -> Iterator[Callable[[], None]]:
    """Send whatever a run writes to standard output to standard error instead.

    Yields:
        A function that ends the redirection before the block does.
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


def _run_pipeline(
    recipe: "Recipe", store: "Storage", until: str, exit_handler: "ExitHandler"
) -> "RunRecord":
    from flows.judged import is_judged
    from flows.metrics_targets import publish_cached_run
    from flows.planner import PLAN, plan_pipeline
    from flows.preflight import check_machine
    from infra.runs.run_records import COMPLETED, RunRecord, find_same_run

    if not os.environ.get("PREFECT_API_URL"):
        planner = plan_pipeline(recipe, until)
        paths = [step.folder for step in planner.steps]
        record = find_same_run(store, recipe.name, paths) if planner.complete else None
        if record is not None and is_judged(store, recipe, record, until):  # no server is needed
            print_message(f"nothing to do: all {len(paths)} data sets exist already")
            publish_cached_run(recipe.name, planner.steps)
            stages = [replace(stage, seconds=0.0, cached=True) for stage in record.stages]
            return replace(record, stages=stages)
        check_machine(recipe, until, lambda: planner)
        PLAN.set(planner)
    keep_server = use_prefect_server(exit_handler)
    from flows.pipeline import pipeline

    previous = _find_latest_run(store, recipe.name)
    try:
        with clean_up_on_interrupt():
            record = RunRecord.from_json(pipeline(recipe, until))
        keep_server()
        return record
    except UserError:
        raise
    except Exception as error:
        # The store decides what is done: losing the server loses the history, not the work.
        record = _find_latest_run(store, recipe.name)
        if record is None or record.report is None or record.state != COMPLETED:
            raise
        if previous is not None and record.run == previous.run:
            raise
        log.warning("the run is complete, but could not be reported to the server: %r", error)
        return record


def use_prefect_server(exit_handler: "ExitHandler") -> Callable[[], None]:
    """Find or start the Prefect server of this process's flow runs.

    Args:
        exit_handler: see ``flows.prefect_server.set_exit_handler``.

    Returns:
        A function to call after the flow run has completed: it keeps a server that was started.

    Raises:
        UserError: if Prefect's settings are wrong, or its server does not answer.
    """
    keep_s = _keep_seconds()
    if api_url := load_prefect_settings():
        require_server(api_url)
    from flows.prefect_server import local_server_if_needed, set_exit_handler

    set_exit_handler(exit_handler)
    server = local_server_if_needed()
    importlib.import_module("flows.pipeline")  # meanwhile the server starts
    if server is not None:
        server.use()

    def keep() -> None:
        if server is None:
            return
        server.keep(keep_s)
        if keep_s:
            print_message(
                f"the Prefect server of this run stays {keep_s:g} s for the next one ({KEEP_SERVER_ENV}=0: not)"
            )

    return keep


def _keep_seconds() -> float:
    """For how long to keep the server: for a user who is likely to run again, one with a terminal."""
    value = os.environ.get(KEEP_SERVER_ENV, "")
    if not value:
        return KEEP_SERVER_S if sys.stderr.isatty() else 0.0
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UserError(
            f"{KEEP_SERVER_ENV}: {value!r} is not a number of seconds; 0 keeps no server"
        )
    return seconds


def load_prefect_settings() -> str | None:
    """Import Prefect, which reads its settings; return the URL of the server's API if one is set.

    Raises:
        UserError: if a variable ``PREFECT_...`` or the profile is wrong.
    """
    noise = io.StringIO()  # Prefect prints the same error before it raises it
    try:
        with contextlib.redirect_stderr(noise):
            from prefect.settings import get_current_settings, load_profiles

            settings, profiles = get_current_settings(), load_profiles()
    except ValueError as error:  # of pydantic and of tomllib
        details: list[Any] = getattr(error, "errors", list)()
        wrong = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
            for item in details
            if item["type"] != "default_factory_not_called"
        )
        title = getattr(error, "title", "profiles.toml")
        raise UserError(
            f"Prefect's settings (PREFECT_... variables, profiles.toml) are wrong: {title}: {wrong or error}"
        ) from None
    active = os.environ.get("PREFECT_PROFILE", profiles.active_name)
    if active not in profiles.names:  # Prefect would use another one
        setting = "PREFECT_PROFILE" if "PREFECT_PROFILE" in os.environ else "active"
        raise UserError(
            f"{setting}: there is no profile {active!r} in {settings.profiles_path}; "
            f"it has {', '.join(sorted(profiles.names))}"
        )
    return str(settings.api.url) if settings.api.url else None


def require_server(api_url: str) -> None:
    """Raise ``UserError`` unless a Prefect server answers; it says how to do without that server."""
    import httpx

    try:
        httpx.get(f"{api_url.rstrip('/')}/health", timeout=SERVER_TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise UserError(
            f"no Prefect server answers at {api_url} ({error}); start it, or {_how_to_unset_server()}"
        ) from None


def _how_to_unset_server() -> str:
    """What removes the setting of the server's URL from where Prefect has read it."""
    from prefect.context import get_settings_context
    from prefect.settings import PREFECT_API_URL

    if os.environ.get(PREFECT_API_URL.name):
        return f"unset the variable {PREFECT_API_URL.name}"
    profile = get_settings_context().profile
    if profile.settings.get(PREFECT_API_URL):
        return (
            f"remove it from Prefect's profile {profile.name!r} "
            f"(prefect --profile {profile.name} config unset {PREFECT_API_URL.name})"
        )
    return f"remove {PREFECT_API_URL.name} from .env, prefect.toml or pyproject.toml of this folder"


def _find_latest_run(store: "Storage", recipe: str) -> "RunRecord | None":
    from infra.runs.run_records import RunNotFoundError, latest_run

    try:
        return latest_run(store, recipe)
    except RunNotFoundError:
        return None


def _print_result(store: "Storage", record: "RunRecord", as_json: bool) -> None:
    """Print what a run made on standard output, and models trained on removed documents."""
    from flows.judged import describe_versions
    from views.removal.exposure import load_exposure

    value = _run_json(store.url.rstrip("/"), record.to_json())
    exposed = [item for item in load_exposure(store, record.recipe) if item.documents is not None]
    for item in exposed:
        print_message(str(item), "warning")
    for line in describe_versions(store, record):
        print_message(line)
    if as_json:
        print_json({**value, "models_exposed": [item.to_json() for item in exposed]})
    else:
        click.echo(value["report"])


def _run_json(root: str, record: dict[str, Any]) -> dict[str, Any]:
    """The record as ``run --json`` prints it: paths that can be opened as they are."""

    def absolute(path: str | None) -> str | None:
        return None if path is None else f"{root}/{path}"

    stage_keys = "stage source entry fingerprint path cached in kept dropped failed seconds".split()
    return {
        "recipe": record["recipe"],
        "run": record["run"],
        "report": absolute(record["report"]),
        "stages": [
            {key: stage[key] for key in stage_keys} | {"path": absolute(stage["path"])}
            for stage in record["stages"]
        ],
        "models": [
            {
                "name": model["name"],
                "export": absolute(model["release"]),
                "metrics": model["metrics"],
            }
            for model in record["models"]
        ],
    }


def exit_now(print_result: Callable[[], None], error: BaseException | None) -> NoReturn:
    """End this process at once, with the output and status of a normal end."""

    def conclude() -> None:
        if error is not None:
            raise error
        print_result()

    print_message(
        "the Prefect server no longer answers; it may show this run as running", "warning"
    )
    status = 0
    try:
        handle_errors(conclude)()
    except SystemExit as exiting:
        status = int(exiting.code or 0)
    except BaseException:  # noqa: BLE001 - the interpreter, which would print it, is skipped
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
