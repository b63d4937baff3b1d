"""The Prefect server of a run: start an ephemeral one, exit promptly if the server is lost."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

import httpx
import prefect
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import get_current_settings

from infra.compute.processes import die_with_parent
from infra.errors import UserError
from infra.runs.run_records import RunRecord

# What Prefect sets for its own ephemeral server: no web pages, settings that clients cannot change.
SERVER_ENV = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
}
SERVER_LOST_TIMEOUT_S = 15.0  # without an answer for so long, the server counts as lost
PROBE_TIMEOUT_S = 30.0  # one that has ended refuses at once; a busy one needs time
PROBE_INTERVAL_S = 1.0

ExitHandler = Callable[[RunRecord, BaseException | None], NoReturn]

_exit_handler: ExitHandler | None = None


class EphemeralServer(SubprocessASGIServer):
    """A Prefect server for a single process; the kernel kills it when that process dies.

    Prefect stops its own server when the interpreter exits. A killed interpreter does not exit.
    """

    run_interrupted: ClassVar[bool] = False

    def stop(self) -> None:
        """Stop the server; after an interrupt, kill it: its own end takes up to five seconds.

        At this point Prefect has reported the end of the run, and the database is on the disk.
        """
        if self.run_interrupted and self.server_process is not None:
            self.server_process.kill()
        super().stop()

    def _run_uvicorn_command(self) -> "subprocess.Popen[Any]":
        settings = get_current_settings().to_environment_variables(exclude_unset=True)
        command = [
            *(sys.executable, "-m", "uvicorn", "--app-dir", str(prefect.__module_path__.parent)),
            *("--factory", "prefect.server.api.server:create_app", "--lifespan", "on"),
            *("--host", "127.0.0.1", "--port", str(self.port), "--log-level", "error"),
        ]
        return subprocess.Popen(
            command,
            env={**os.environ, **SERVER_ENV, **settings},
            # A signal to the group of this process, such as Ctrl-C, ends the run first, which still
            # reports to the server.
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - a single prctl, safe between fork and exec
        )


def start_ephemeral_server() -> None:
    """Start a server if Prefect would start one; Prefect then finds and uses it.

    The kernel ties the server to the calling thread: call this from the main thread.
    """
    settings = get_current_settings()
    if settings.api.url is None and settings.server.ephemeral.enabled:
        probe = settings.home / f".tmp-{uuid.uuid4().hex}"
        try:
            settings.home.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"PREFECT_HOME: {settings.home} cannot be written to ({error.strerror})"
            ) from None
        EphemeralServer().start()


def set_exit_handler(handler: ExitHandler) -> None:
    """Set the handler that ends this process if a run has ended and its server is lost.

    Without it Prefect retries for minutes: one minute per request, and seven seconds per event that
    is still to be sent. A process that exists for one run need not wait for that.
    """
    global _exit_handler  # noqa: PLW0603 - a process exists for one run
    _exit_handler = handler


def on_run_end(record: RunRecord, error: BaseException | None) -> None:
    """Call the exit handler if the server is lost; note whether the run was interrupted.

    To be called when everything of the run is in the store, before Prefect reports its end.
    """
    EphemeralServer.run_interrupted = error is not None and not isinstance(error, Exception)
    if _exit_handler is not None and not _is_server_reachable():
        _exit_handler(record, error)


def _is_server_reachable() -> bool:
    """Probe the server until it answers or the timeout expires."""
    api = get_current_settings().api.url or EphemeralServer().api_url
    deadline = time.monotonic() + SERVER_LOST_TIMEOUT_S
    while True:
        try:
            httpx.get(f"{str(api).rstrip('/')}/health", timeout=PROBE_TIMEOUT_S)
        except httpx.HTTPError:
            if time.monotonic() > deadline:
                return False
            time.sleep(PROBE_INTERVAL_S)
        else:
            return True
