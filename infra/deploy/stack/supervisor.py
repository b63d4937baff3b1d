"""supervisord, which starts the services of a stack and restarts those that die."""

import os
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable, Iterator, Mapping
from configparser import RawConfigParser
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from infra.deploy.stack.layout import MARKER, Layout
from infra.deploy.stack.services import SERVICES, Service
from infra.errors import UserError

# A service that ends within so many seconds has failed to start: supervisord waits one second longer
# before each further attempt. One that ends later is restarted at once.
START_SECONDS = 20
MAX_ATTEMPTS = 100
STOP_TIMEOUT_S = 20
MAX_SHOWN_ATTEMPTS = 3  # if a service has ended so often before it was ready, `up` gives up
SHOWN_LINES = 20
# What would change where a service connects to, or how it behaves, without being a setting of the stack.
FOREIGN_PREFIXES = ("PREFECT_", "AWS_", "DASK_", "FSSPEC_", "PG", "WEED_")


class ServiceFailedError(UserError):
    """A service that does not start.

    Attributes:
        service: its name.
    """

    def __init__(self, service: str, message: str) -> None:
        """Store the name."""
        super().__init__(message)
        self.service = service


@dataclass(frozen=True)
class ServiceState:
    """What supervisord knows of a service."""

    name: str
    state: str  # RUNNING, STARTING, BACKOFF, FATAL, ...
    pid: int
    started: int

    @property
    def seconds(self) -> int:
        """How long it has been running."""
        return int(time.time()) - self.started if self.pid else 0


def write_config(layout: Layout) -> None:
    """Write supervisord's configuration; it holds no secret."""
    config = RawConfigParser()
    folder = _escape(layout.folder)
    config["supervisord"] = {
        "logfile": _escape(layout.log("supervisord")),
        "logfile_maxbytes": "10MB",
        "logfile_backups": "3",
        "pidfile": f"{folder}/supervisord.pid",
        "umask": "077",
        "environment": f'{MARKER}="{folder}"',
    }
    config["unix_http_server"] = {"file": _escape(layout.socket), "chmod": "0700"}
    config["rpcinterface:supervisor"] = {
        "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
    }
    for priority, service in enumerate(SERVICES):
        module = (sys.executable, "-P", "-m", "infra.deploy.stack.service")
        command = [*module, service.name, str(layout.folder)]
        config[f"program:{service.name}"] = {
            "command": " ".join(f'"{_escape(item)}"' for item in command),
            "priority": str(priority),
            "autorestart": "true",
            "startsecs": str(START_SECONDS),
            "startretries": str(MAX_ATTEMPTS),
            "stopsignal": service.stop_signal,
            "stopwaitsecs": str(STOP_TIMEOUT_S),
            "stopasgroup": "false",
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": _escape(layout.log(service.name)),
            "stdout_logfile_maxbytes": "10MB",
            "stdout_logfile_backups": "3",
        }
    with layout.config.open("w", encoding="utf-8") as out:
        config.write(out)


def start_supervisor(layout: Layout) -> None:
    """Start supervisord in the background; it starts the services.

    Raises:
        UserError: if it does not start.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN_PREFIXES)}
    kept[MARKER] = str(layout.folder)
    result = subprocess.run(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(layout.config)],
        env=kept,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise UserError(f"supervisord did not start: {(result.stderr or result.stdout).strip()}")


def start_stopped(layout: Layout, states: Mapping[str, ServiceState]) -> None:
    """Start the services that supervisord runs no more, because they failed too often."""
    for state in states.values():
        if state.state in ("FATAL", "EXITED", "STOPPED"):
            with suppress(xmlrpc.client.Fault):
                _proxy(layout).supervisor.startProcess(state.name, False)


def read_states(layout: Layout) -> dict[str, ServiceState] | None:
    """Ask supervisord for the states of all services; ``None`` if it does not run."""
    try:
        answer = _proxy(layout).supervisor.getAllProcessInfo()
    except (OSError, xmlrpc.client.Error):
        return None
    assert isinstance(answer, list)
    return {
        item["name"]: ServiceState(item["name"], item["statename"], item["pid"], item["start"])
        for item in answer
    }


def wait_until_ready(layout: Layout, timeout_s: float, on_ready: Callable[[str], None]) -> None:
    """Wait until every service does its work.

    Args:
        layout: the stack.
        timeout_s: how long to wait for all of them.
        on_ready: called with the name of each service once it does.

    Raises:
        ServiceFailedError: if one does not; the message has the last lines of its log.
    """
    deadline = time.monotonic() + timeout_s
    starts: dict[str, set[int]] = {service.name: set() for service in SERVICES}
    waiting = list(SERVICES)
    while waiting:
        states = read_states(layout)
        if states is None:
            raise ServiceFailedError(
                "supervisord", f"supervisord ended:\n{_tail(layout, 'supervisord')}"
            )
        for service in waiting[:]:
            state = states[service.name]
            # A service that waited for others first and ended then was never in the state BACKOFF.
            starts[service.name].add(state.started)
            if state.state == "FATAL" or len(starts[service.name] - {0}) > MAX_SHOWN_ATTEMPTS:
                raise ServiceFailedError(service.name, _describe_failure(layout, service))
            if state.state in ("RUNNING", "STARTING") and service.is_ready(layout):
                waiting.remove(service)
                on_ready(service.name)
        if waiting and time.monotonic() > deadline:
            service = waiting[0]
            raise ServiceFailedError(
                service.name,
                f"{service.name} was not ready after {timeout_s:.0f} s; the end of "
                f"{layout.log(service.name)}:\n{_tail(layout, service.name)}",
            )
        time.sleep(0.2)


def stop_supervisor(layout: Layout) -> int:
    """Stop all services, then what they may have left; return the number of processes stopped."""
    before = list(_members(layout))
    with suppress(OSError, xmlrpc.client.Error):
        _proxy(layout).supervisor.shutdown()
        deadline = time.monotonic() + len(SERVICES) * STOP_TIMEOUT_S  # one after the other
        while layout.socket.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
    # A run of a worker that was killed has no parent any more.
    for send in (psutil.Process.terminate, psutil.Process.kill):
        remaining = list(_members(layout))
        for process in remaining:
            with suppress(psutil.NoSuchProcess):
                send(process)
        psutil.wait_procs(remaining, timeout=STOP_TIMEOUT_S)
    return len(before)


def _members(layout: Layout) -> Iterator[psutil.Process]:
    """The processes that have this stack's marker in their environment."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARKER) == str(layout.folder):
                yield process


def _describe_failure(layout: Layout, service: Service) -> str:
    return (
        f"{service.name} does not start; the end of {layout.log(service.name)}:\n"
        f"{_tail(layout, service.name)}"
    )


def _tail(layout: Layout, service: str) -> str:
    try:
        lines = layout.log(service).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    return "\n".join(lines[-SHOWN_LINES:]) or "(empty)"


def _escape(value: str | Path) -> str:
    """Write a value into supervisord's configuration, where % starts an expression."""
    return str(value).replace("%", "%%")


def _proxy(layout: Layout) -> xmlrpc.client.ServerProxy:
    from supervisor.xmlrpc import SupervisorTransport

    transport = SupervisorTransport(None, None, f"unix://{layout.socket}")
    return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
