"""The Prefect server that a run without one starts for itself: it ends with the run, however that ends."""

import os
import subprocess
import sys
from typing import Any

import prefect
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import get_current_settings

from infra.compute.processes import die_with_parent

# As Prefect sets them for its own: no web pages, and settings that no client may change.
SERVER_ENV = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
}


class EphemeralServer(SubprocessASGIServer):
    """Prefect's server for a single process, killed by the kernel when that process dies.

    Prefect ends its own when the interpreter exits, which it does not if it is killed.
    """

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
            preexec_fn=die_with_parent,  # noqa: PLW1509 - a single prctl, safe between fork and exec
        )


def start_ephemeral_server() -> None:
    """Start the server if Prefect would start one; Prefect then finds and uses it.

    The kernel watches the calling thread: call it from the main one.
    """
    settings = get_current_settings()
    if settings.api.url is None and settings.server.ephemeral.enabled:
        EphemeralServer().start()
