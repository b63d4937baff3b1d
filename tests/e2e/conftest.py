"""A Prefect server, the project's deployments on it, and a worker for them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient

from flows.deployments import ensure_pool
from tests.e2e.command import PREFECT, server_client
from tests.e2e.prefect_server import Prefect, prefect_server
from tests.processes import ROOT, TreeProcess, process_tree


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Prefect home whose server stays, for runs that need none of their own."""
    folder = tmp_path_factory.mktemp("home")
    with server_client(folder, 0) as client:
        assert client.stdout is not None
        assert client.stdin is not None
        assert client.stdout.readline().startswith(b"http")
        yield folder
        client.stdin.close()
        assert client.wait() == 0


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """A separate server for every module, with the work pool of `prefect.yaml`."""
    folder = tmp_path_factory.mktemp("prefect")
    with prefect_server(folder) as running:
        with SyncPrefectClient(running.api) as client:
            ensure_pool(client, "gristmill", "process")
        yield running


@pytest.fixture(scope="module")
def deployed(prefect: Prefect) -> Prefect:
    """The server with the project's deployments."""
    deployments = prefect.command("deploy", "--all")
    assert deployments.code == 0, deployments.out + deployments.err
    return prefect


@pytest.fixture(scope="module")
def worker(prefect: Prefect, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TreeProcess]:
    """A worker that starts the runs of deployments."""
    with run_worker(prefect.env, tmp_path_factory.mktemp("worker") / "log") as process:
        yield process


@contextmanager
def run_worker(env: Mapping[str, str], log: Path) -> Iterator[TreeProcess]:
    """Run a worker while the block lasts."""
    env = {
        **env,
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "GRISTMILL_CLUSTER_KWARGS": "host,dashboard_address,preload",
        "GRISTMILL_REPORTS_URL": "https://reports.example.org",
    }
    command = [PREFECT, "worker", "start", "--pool", "gristmill"]
    with (
        log.open("wb") as sink,
        process_tree(command, env, cwd=ROOT, stdout=sink, stderr=sink) as process,
    ):
        yield process
