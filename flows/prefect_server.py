"""The Prefect server of a run: use or start one of this machine, exit promptly if it is lost."""

import atexit
import fcntl
import hashlib
import json
import os
import platform
import re
import secrets
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, ClassVar, NoReturn

import httpx
import prefect
import prefect.context
from prefect.settings import Settings, get_current_settings

from flows import local_server
from infra.compute.processes import boot_id
from infra.errors import UserError
from infra.runs.run_records import RunRecord

# What Prefect sets for its own ephemeral server: no web pages, settings that clients cannot change.
SERVER_ENV = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
}
ANSWER_TIMEOUT_S = 10.0  # of a server that is there, to a run that wants to use it
STOP_TIMEOUT_S = 10.0  # the server ends earlier by itself
EXIT_TIMEOUT_S = 1.0  # of its process, once it has closed its connections
SERVER_LOST_TIMEOUT_S = 15.0  # without an answer for so long, the server counts as lost
PROBE_TIMEOUT_S = 30.0  # one that has ended refuses at once; a busy one needs time
PROBE_INTERVAL_S = 1.0

ExitHandler = Callable[[RunRecord, BaseException | None], NoReturn]

_exit_handler: ExitHandler | None = None


class LocalServer:
    """A Prefect server that the runs of this user on this machine share (``flows/local_server.py``).

    It stays as long as one of them is connected, and after that as long as the last ones asked it to.
    It listens on the loopback interface, and only clients that know its token may use it: they read
    it in a file that only this user can read.
    """

    run_interrupted: ClassVar[bool] = False

    def __init__(self, settings: Settings) -> None:
        """Connect to the server of these settings, or begin to start it."""
        self._settings = settings
        self._home = Path(settings.home).absolute()
        self._state_file = self._home / "gristmill-server.json"
        self._log_file = self._home / "gristmill-server.log"
        self._keep_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._check_home()
        # Of two runs that start together, the second one waits for the server of the first one.
        self._lock: IO[bytes] | None = (self._home / "gristmill-server.lock").open("wb")
        with suppress(OSError):  # not every file system of a network has locks: each starts its own
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._token, self._connection = self._connect() or self._start()
        # Prefect sends what is left when the interpreter exits, before functions that were registered
        # earlier are called.
        atexit.register(self._leave)

    def use(self) -> None:
        """Wait until the server answers, and make it the one that Prefect uses in this process.

        Raises:
            UserError: if it does not start.
        """
        self._connection.settimeout(self._settings.server.ephemeral.startup_timeout_seconds or None)
        try:
            port = _read_port(self._connection)
        except OSError:
            raise UserError(
                f"the Prefect server of this run did not start: {self._last_error()} (see {self._log_file})"
            ) from None
        finally:
            self._unlock()
        settings = self._settings.copy_with_update(
            {
                prefect.settings.PREFECT_API_URL: f"http://{local_server.LOOPBACK}:{port}/api",
                prefect.settings.PREFECT_API_AUTH_STRING: self._token,
                # They tell a server that watches for lost runs, which this one does not, that the run
                # is alive; and a run waits for a second when it stops sending them.
                prefect.settings.PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
            }
        )
        # For all threads of this process, unlike a context of this one.
        prefect.context.GLOBAL_SETTINGS_CONTEXT = prefect.context.SettingsContext(
            profile=prefect.context.get_settings_context().profile, settings=settings
        )

    def keep(self, seconds: float) -> None:
        """Let the server stay for the next run when this one ends."""
        self._keep_s = seconds

    def _check_home(self) -> None:
        probe = self._home / f".tmp-{uuid.uuid4().hex}"
        try:
            self._home.mkdir(parents=True, exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"PREFECT_HOME: {self._home} cannot be written to ({error.strerror})"
            ) from None

    def _environment(self) -> dict[str, str]:
        return {
            **SERVER_ENV,
            **self._settings.to_environment_variables(exclude_unset=True),
            "PREFECT_HOME": str(self._home),
        }

    def _identity(self) -> dict[str, str]:
        """What has to be the same for a run to use a server that is there."""
        parts = (
            *(sys.executable, prefect.__version__, sorted(self._environment().items())),
            Path(local_server.__file__).read_bytes(),
        )
        digest = hashlib.sha256(repr(parts).encode()).hexdigest()
        return {"host": platform.node(), "boot": boot_id(), "version": digest}

    def _connect(self) -> tuple[str, socket.socket] | None:
        """Connect to the server that is there, if it has this run's version and settings."""
        try:
            state = json.loads(self._state_file.read_text())
            if any(state[key] != value for key, value in self._identity().items()):
                return None
            connection = socket.create_connection(
                (local_server.LOOPBACK, state["control_port"]), ANSWER_TIMEOUT_S
            )
            connection.sendall(f"{state['token']}\n".encode())
            if not connection.recv(1, socket.MSG_PEEK):  # it is about to end
                return None
        except (OSError, ValueError, KeyError):  # no server, or none of this version
            return None
        return state["token"], connection

    def _start(self) -> tuple[str, socket.socket]:
        """Start a server; it ends if this process is lost, since the kernel closes the connection."""
        token = f"gristmill:{secrets.token_urlsafe(32)}"
        own, its = socket.socketpair()
        with its, self._log_file.open("wb") as log:
            command = [
                # Without the folder of the file, or that of the caller, among those of modules.
                *(sys.executable, "-P", local_server.__file__),
                *(str(its.fileno()), str(self._state_file), json.dumps(self._identity())),
            ]
            self._process = subprocess.Popen(
                command,
                env={
                    **os.environ,
                    **self._environment(),
                    "PREFECT_SERVER_API_AUTH_STRING": token,
                },
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[its.fileno()],
                # A signal to the group of this process, such as Ctrl-C, ends the run first, which
                # still reports to the server.
                start_new_session=True,
            )
        return token, own

    def _leave(self) -> None:
        """Disconnect; if the server ends now, wait for it."""
        self._unlock()
        expected = (OSError, subprocess.TimeoutExpired)  # the server may stay for another run
        with self._connection as connection, suppress(*expected):
            connection.settimeout(STOP_TIMEOUT_S)
            # After an interrupt the server's own end would take too long. At this point Prefect has
            # reported the end of the run, and the database is on the disk.
            last_words = "quit 0" if self.run_interrupted else f"keep {self._keep_s}"
            connection.sendall(f"{last_words}\n".encode())
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(64):
                pass
            if self._process is not None and not self._keep_s:
                self._process.wait(EXIT_TIMEOUT_S)

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _last_error(self) -> str:
        """The last exception that the server logged; Python begins its line with its class."""
        text = self._log_file.read_text(errors="replace")
        errors = re.findall(r"^[\w.]+(?:Error|Exception): .+", text, re.MULTILINE)
        return str(errors[-1]).strip() if errors else "it ended without a message"


def _read_port(connection: socket.socket) -> int:
    """Read the port of the API; raises ``OSError`` if the server ends or does not answer."""
    with connection.makefile("r") as lines:
        verb, _, port = lines.readline().partition(" ")
    if verb != "ready":
        raise ConnectionResetError
    return int(port)


def local_server_if_needed() -> LocalServer | None:
    """Connect to this machine's server, or begin to start it, if Prefect is configured with none."""
    settings = get_current_settings()
    if settings.api.url is None and settings.server.ephemeral.enabled:
        return LocalServer(settings)
    return None


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
    LocalServer.run_interrupted = error is not None and not isinstance(error, Exception)
    if _exit_handler is not None and not _is_server_reachable():
        _exit_handler(record, error)


def _is_server_reachable() -> bool:
    """Probe the server until it answers or the timeout expires."""
    api = get_current_settings().api.url
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
