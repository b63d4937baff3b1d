"""The stack of one machine (``make stack``): all servers real, with passwords, restarted, and ended."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from infra.deploy.stack.layout import DEFAULT_PORTS, MARKER
from infra.deploy.stack.services import SERVICES
from infra.store.storage import Storage
from tests.e2e.command import CommandResult, environment, gristmill, write_recipe
from tests.e2e.compose_commands import Containers
from tests.e2e.corpora import mixed, recipe
from tests.e2e.prefect_server import Prefect
from tests.limits import WAIT_TIMEOUT_S, wait_for
from tests.processes import ROOT, is_alive
from tests.servers import free_port, s3_environment

pytestmark = pytest.mark.e2e

BACKENDS = ("postgres", "redis", "s3", "dask-scheduler")


def command(name: str, folder: Path, *arguments: str) -> CommandResult:
    """Run a command of the stack, which leaves the stack's processes running."""
    module = [sys.executable, "-m", "infra.deploy.stack", name, "--folder", str(folder)]
    result = subprocess.run(
        [*module, *arguments],
        cwd=ROOT,
        capture_output=True,
        timeout=2 * WAIT_TIMEOUT_S,
        check=False,
    )
    return CommandResult(result.returncode, result.stdout.decode(), result.stderr.decode())


def free_ports() -> dict[str, int]:
    """Return a free port for each of the stack's; held together, so that they differ."""
    return {name: free_port() for name in DEFAULT_PORTS}


def port_options(ports: dict[str, int]) -> list[str]:
    """Return the options that choose ports."""
    return [item for name, port in ports.items() for item in ("--port", f"{name}={port}")]


@dataclass(frozen=True)
class Stack:
    """A running stack."""

    folder: Path
    ports: dict[str, int]
    env: dict[str, str]
    addresses: dict[str, Any]

    def status(self) -> dict[str, dict[str, Any]]:
        """Return the state of each service by its name."""
        result = command("status", self.folder, "--json")
        assert result.code == 0, result.err
        return {row["service"]: row for row in result.value["services"]}

    def secrets(self) -> dict[str, bytes]:
        """Return the passwords by name."""
        folder = self.folder / "secrets"
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    def processes(self) -> list[psutil.Process]:
        """Return all processes of the stack; supervisord is the ancestor of all but orphans."""
        return [process for process in psutil.process_iter() if self._is_member(process)]

    def _is_member(self, process: psutil.Process) -> bool:
        try:
            chain = [process, *process.parents()]
            return any(item.environ().get(MARKER) == str(self.folder) for item in chain)
        except (psutil.Error, OSError):
            return False


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack") / "s"
    ports = free_ports()
    result = command("up", folder, "--json", *port_options(ports))
    try:
        assert result.code == 0, result.err
        lines = (folder / "env").read_text().splitlines()
        assert all(line.startswith("export ") for line in lines)
        env = dict(line.removeprefix("export ").split("=", 1) for line in lines)
        yield Stack(folder, ports, env, result.value)
    finally:
        stopped = command("down", folder)
    assert stopped.code == 0, stopped.err


def test_the_pipeline_runs_on_the_stack(stack: Stack, tmp_path: Path) -> None:
    storage = f"{stack.addresses['storage']}data"
    value = recipe(
        storage,
        mixed(tmp_path / "in", 20),
        cluster={"address": stack.addresses["dask"]},
        train=[
            {
                "name": "tiny",
                "model": {"num_layers": 1, "hidden_size": 32, "num_heads": 2, "context_length": 32},
                "data": {"train_tokens": 2000},
                "run": {"num_processes": 1},
            }
        ],
        evaluate={"num_samples": 1, "max_new_tokens": 4},
    )
    env = environment(tmp_path / "home", **stack.env)
    prefect = Prefect(f"{stack.addresses['prefect']}/api", env, tmp_path / "home")
    path = write_recipe(tmp_path / "r.yaml", value)
    deployed = gristmill(tmp_path / "home", "deploy", str(path), env=env)
    assert deployed.code == 0, deployed.out + deployed.err
    run = prefect.run("pipeline/small-pipeline")
    wait_for(lambda: prefect.state(run) in ("COMPLETED", "FAILED", "CRASHED"), poll_interval_s=1)
    logs = {path.name: path.read_text() for path in (stack.folder / "logs").iterdir()}
    assert prefect.state(run) == "COMPLETED", logs["prefect-worker.log"]
    # A server that lacks a setting asks the usual ports of this machine, and complains in its log only.
    assert [name for name, text in logs.items() if "Connect call failed" in text] == []
    verified = gristmill(tmp_path / "home", "verify", str(path), env=env)
    assert verified.code == 0, verified.out + verified.err
    stages = {name.split("/")[0] for name in _list_files(storage, env)}
    assert {"acquire", "select", "tokenize", "train", "release", "evaluate", "reports"} <= stages


def _list_files(storage: str, env: dict[str, str]) -> list[str]:
    with s3_environment(env):
        return Storage(storage).list_files()


def test_every_server_asks_for_a_password(stack: Stack) -> None:
    api = f"{stack.addresses['prefect']}/api"
    assert httpx.post(f"{api}/flow_runs/filter").status_code == 401
    right = tuple(stack.env["PREFECT_API_AUTH_STRING"].split(":"))
    assert httpx.post(f"{api}/flow_runs/filter", auth=(right[0], right[1])).status_code == 200
    assert httpx.get(f"{stack.addresses['s3']}/gristmill").status_code == 403
    filer = httpx.get(f"http://127.0.0.1:{stack.ports['filer']}/buckets/gristmill/data/")
    assert filer.status_code == 401
    with socket.create_connection(("127.0.0.1", stack.ports["redis"]), WAIT_TIMEOUT_S) as redis:
        redis.sendall(b"PING\r\n")
        assert redis.recv(100).startswith(b"-NOAUTH")
    assert _ask_postgres(stack.ports["postgres"], "wrong") == "InvalidPasswordError"
    assert _ask_postgres(stack.ports["postgres"], stack.secrets()["postgres"].decode()) == "1"
    # Dask asks both ends for a certificate.
    script = "import sys, distributed; distributed.Client(sys.argv[1], timeout=3)"
    without = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
    for env, works in (({**without, **stack.env}, True), (without, False)):
        client = [sys.executable, "-c", script, stack.addresses["dask"]]
        result = subprocess.run(client, env=env, capture_output=True, check=False)
        assert (result.returncode == 0) is works, result.stderr.decode()


def _ask_postgres(port: int, password: str) -> str:
    import asyncio

    import asyncpg

    async def ask() -> str:
        try:
            connection = await asyncpg.connect(
                host="127.0.0.1", port=port, user="prefect", password=password, database="prefect"
            )
        except asyncpg.PostgresError as error:
            return type(error).__name__
        try:
            return str(await connection.fetchval("SELECT 1"))
        finally:
            await connection.close()

    return asyncio.run(ask())


def test_nothing_is_open_to_the_network(stack: Stack) -> None:
    for process in stack.processes():
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                assert connection.laddr.ip in ("127.0.0.1", "::1"), (process.cmdline(), connection)


def test_killed_services_are_restarted(stack: Stack) -> None:
    # First what the others connect to: they have to recover without being restarted.
    before = _kill(stack, BACKENDS)
    after = stack.status()
    others = set(before) - {*BACKENDS, "dask-workers"}  # they end with their scheduler
    assert {n: after[n]["pid"] for n in others} == {n: before[n]["pid"] for n in others}
    _kill(stack, tuple(others | {"dask-workers"}))
    worker = stack.status()["prefect-worker"]["pid"]
    temporary = [path.name for path in (stack.folder / "prefect-worker").iterdir()]
    assert temporary == [str(worker)], "a worker that was killed leaves no temporary files"


def _kill(stack: Stack, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Kill services, wait until all work again, and return the states before."""
    before = stack.status()
    for name in names:
        os.kill(before[name]["pid"], signal.SIGKILL)
    wait_for(lambda: _are_back(stack, before, names), poll_interval_s=1)
    return before


def _are_back(stack: Stack, before: dict[str, dict[str, Any]], names: tuple[str, ...]) -> bool:
    now = stack.status()
    return all(row["ready"] for row in now.values()) and all(
        now[name]["pid"] not in (0, before[name]["pid"]) for name in names
    )


def test_secrets_are_in_no_log_file_and_no_command_line(stack: Stack) -> None:
    allowed = {stack.folder / "env", stack.folder / "redis" / "redis.conf"}
    secrets = stack.secrets()
    assert len(secrets) >= 5
    for path in stack.folder.rglob("*"):
        if not path.is_file() or path.is_relative_to(stack.folder / "secrets") or path in allowed:
            continue
        content = path.read_bytes()
        assert [name for name, value in secrets.items() if value in content] == [], path
    for path in (*allowed, *(stack.folder / "secrets").rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path
    for process in stack.processes():
        line = " ".join(process.cmdline()).encode()
        assert [name for name, value in secrets.items() if value in line] == []


def test_the_commands_of_the_compose_file_work(stack: Stack, tmp_path: Path) -> None:
    password = stack.secrets()["postgres"].decode()
    containers = Containers(tmp_path, stack.ports["postgres"], password)
    with containers.run_all() as running:
        assert set(running) | {"postgres"} == set(containers.services)
        made = [path.read_bytes() for path in (tmp_path / "secrets").iterdir() if path.is_file()]
        for process in running.values():
            for member in process.members():
                line = " ".join(member.cmdline()).encode()
                assert not any(secret in line for secret in made if len(secret) > 20)


def test_a_second_start_finds_the_first(stack: Stack) -> None:
    before = stack.status()
    again = command("up", stack.folder, "--json")
    assert again.code == 0, again.err
    assert {n: row["pid"] for n, row in stack.status().items()} == {
        n: row["pid"] for n, row in before.items()
    }


def test_after_the_end_no_process_is_left(stack: Stack) -> None:
    processes = stack.processes()
    assert len(processes) > len(SERVICES)
    # As a run of a worker that was killed: nobody's child, in a session of its own.
    orphan = subprocess.Popen(
        ["sleep", "1000"], env={MARKER: str(stack.folder)}, start_new_session=True
    )
    assert command("down", stack.folder).code == 0
    orphan.wait()
    assert [process for process in processes if is_alive(process)] == []
    assert command("down", stack.folder).code == 0
    stopped = command("status", stack.folder)
    assert stopped.code == 1
    assert "Traceback" not in stopped.err


def test_a_service_that_cannot_start_is_shown_with_its_last_lines(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    (folder / "postgres").mkdir(parents=True)  # not made by initdb
    ports = free_ports()
    options = port_options(ports)
    with socket.create_server(("127.0.0.1", ports["redis"])):
        taken = command("up", folder, *options)
    assert taken.code == 1
    assert str(ports["redis"]) in taken.err
    assert len(taken.err.splitlines()) == 1
    result = command("up", folder, *options)
    assert result.code == 1
    assert "postgresql.conf" in result.err
    assert "Traceback" not in result.err
    assert not (folder / "supervisor.sock").exists()
    assert "Traceback" not in command("up", folder, "--port", "nonsense=1").err
