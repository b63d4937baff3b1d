"""A Prefect server, the project's deployments on it, and a worker for them."""

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.command import environment
from tests.e2e.prefect_server import PREFECT, ROOT, Prefect
from tests.servers import free_port, server


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """A separate server for every module."""
    folder = tmp_path_factory.mktemp("prefect")
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    env = environment(folder / "home", PREFECT_API_URL=api)
    command = [PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    server_env = {**env, "PREFECT_API_URL": ""}
    with server(command, folder / "server.log", f"{api}/health", 120, server_env):
        yield Prefect(api, env, folder / "home")


@pytest.fixture(scope="module")
def deployed(prefect: Prefect) -> Prefect:
    """The server with the project's deployments."""
    pool = prefect.command("work-pool", "create", "--type", "process", "gristmill")
    assert pool.returncode == 0, pool.stdout + pool.stderr
    deployments = prefect.command("deploy", "--all")
    assert deployments.returncode == 0, deployments.stdout + deployments.stderr
    return prefect


@pytest.fixture(scope="module")
def worker(deployed: Prefect, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A worker that runs the deployments; its process id."""
    log = (tmp_path_factory.mktemp("worker") / "log").open("wb")
    process = subprocess.Popen(
        [PREFECT, "worker", "start", "--pool", "gristmill"],
        cwd=ROOT,
        env={
            **deployed.env,
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "GRISTMILL_CLUSTER_KWARGS": "host,dashboard_address,preload",
        },
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    yield process.pid
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    log.close()
