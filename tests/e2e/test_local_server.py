"""The Prefect server that runs without a server share: who may use it, and when it ends."""

import json
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest

from flows import local_server
from tests.e2e.command import SERVER_CLIENT, environment, run_to_end, server_client
from tests.limits import wait_for
from tests.processes import TreeProcess, is_alive

pytestmark = pytest.mark.e2e


def read_url(process: TreeProcess) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


def end(process: TreeProcess) -> None:
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait() == 0


def is_serving(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.ConnectError:
        return False


def test_runs_share_a_server_that_stays_for_the_next_one_and_then_ends(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    state_file = home / "gristmill-server.json"
    state_file.write_text("{damaged")
    with ExitStack() as stack:
        runs = [stack.enter_context(server_client(home, 10)) for _ in range(2)]  # at the same time
        urls = {read_url(run) for run in runs}
        assert len(urls) == 1
        url = urls.pop()
        state = json.loads(state_file.read_text())
        server = psutil.Process(state["pid"])
        listening = [item for item in server.net_connections() if item.status == "LISTEN"]
        assert {item.laddr.ip for item in listening} == {local_server.LOOPBACK}
        assert state_file.stat().st_mode & 0o077 == 0
        assert httpx.post(f"{url}/flows/filter", json={}).status_code == 401
        user, _, password = state["token"].partition(":")
        answer = httpx.post(f"{url}/flows/filter", json={}, auth=(user, password))
        assert answer.status_code == 200
        # A run that is killed does not take the server from another one.
        starter, other = sorted(runs, key=lambda run: server.ppid() != run.pid)
        starter.kill()
        with server_client(home, 0, PREFECT_SERVER_LOGGING_LEVEL="INFO") as different:
            assert read_url(different) != url
            different.kill()  # the only run of its server, which ends with it
            different.wait()
            wait_for(lambda: not different.members())
        assert is_serving(url)
        end(other)
        assert is_serving(url), "it stays for the next run"
        wait_for(lambda: not is_alive(server))
    assert not state_file.exists()


def test_a_run_whose_server_does_not_start_says_why(tmp_path: Path) -> None:
    database = f"sqlite+aiosqlite:///{tmp_path}/missing/prefect.db"
    env = environment(tmp_path / "home", PREFECT_SERVER_DATABASE_CONNECTION_URL=database)
    result = run_to_end([sys.executable, "-c", SERVER_CLIENT, "0"], env)
    assert result.code != 0
    assert "UserError" in result.err
    assert "unable to open database file" in result.err
