"""The pipeline over seven hosts, each with an address of its own, while their links are cut one by one."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from infra.store.storage import Storage
from tests.e2e.command import GRISTMILL, environment, write_recipe
from tests.e2e.corpora import mixed, recipe
from tests.e2e.prefect_server import PREFECT, Prefect
from tests.hosts import Host, hosts
from tests.inline import data_bytes, go
from tests.limits import WAIT_TIMEOUT_S, wait_for
from tests.processes import ROOT, TreeProcess, process_tree
from tests.servers import S3, server, weed
from tests.train_entry import train_entry

pytestmark = pytest.mark.e2e

CUT_S = 5.0  # how long a link is down
DASK = str(Path(sys.executable).parent / "dask")
# Files that hold times, or say where something ran.
VOLATILE = ("runs/", "reports/", "unit_cache/", "running/")


@contextmanager
def on_host(
    host: Host, log: Path, command: list[str], env: Mapping[str, str]
) -> Iterator[TreeProcess]:
    """Run a command on a host while the block lasts."""
    with (
        log.open("wb") as sink,
        process_tree([*host.prefix, *command], env, cwd=ROOT, stdout=sink, stderr=sink) as process,
    ):
        yield process


def start_servers(
    stack: ExitStack, folder: Path, store: Host, prefect: Host, scheduler: Host, workers: list[Host]
) -> tuple[S3, Prefect, str]:
    """Start everything that a run needs on its host; return the store, the server and the scheduler."""
    s3 = stack.enter_context(weed(folder / "weed", store.address, store.prefix).running())
    api = f"http://{prefect.address}:4200/api"
    env = environment(folder / "home", PREFECT_API_URL=api)
    command = [*prefect.prefix, PREFECT, "server", "start", "--host", prefect.address]
    server_env = {**env, "PREFECT_API_URL": ""}
    stack.enter_context(server(command, folder / "prefect.log", f"{api}/health", server_env))
    address = f"tcp://{scheduler.address}:8786"
    command = [DASK, "scheduler", "--host", scheduler.address, "--no-dashboard"]
    dask_env = {**env, **s3.env}
    stack.enter_context(on_host(scheduler, folder / "scheduler.log", command, dask_env))
    for number, worker in enumerate(workers):
        command = [DASK, "worker", address, "--host", worker.address, "--nthreads", "1"]
        command += ["--no-dashboard", "--local-directory", str(folder / f"worker-{number}")]
        stack.enter_context(on_host(worker, folder / f"worker-{number}.log", command, dask_env))
    return s3, Prefect(api, env, folder / "home"), address


@contextmanager
def cut(host: Host) -> Iterator[None]:
    """Cut the link of a host for a while."""
    host.disconnect()
    try:
        time.sleep(CUT_S)
    finally:
        host.connect()
    yield


def distributed(local: dict[str, Any], root: str, scheduler: str, driver: Host) -> dict[str, Any]:
    """Return the recipe of the same results on the hosts."""
    run = {"num_nodes": 2, "rendezvous": f"{driver.address}:29400"}
    entry = dict(local["train"][0])
    entry["run"] = {**entry["run"], **run, "checkpoint_url": f"{root}/running"}
    return {**local, "storage": root, "cluster": {"address": scheduler}, "train": [entry]}


def test_a_run_over_seven_hosts_survives_cut_links_with_the_bytes_of_one_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("store", "prefect", "scheduler", "worker-1", "worker-2", "driver", "trainer")
    entry = train_entry(
        name="pair",
        num_layers=1,
        hidden_size=32,
        num_heads=2,
        context_length=64,
        global_batch_size=4,
        train_tokens=400 * 256,
        num_processes=2,
        checkpoint_interval=50,
        max_restarts=2,
    )
    local = recipe(
        tmp_path / "local",
        mixed(tmp_path / "in"),
        cluster={"workers": 0},
        train=[entry],
        evaluate={},
    )
    with hosts(*names) as made, ExitStack() as stack:
        store, prefect, scheduler, first, second, driver, trainer = made
        s3, server_, address = start_servers(
            stack, tmp_path, store, prefect, scheduler, [first, second]
        )
        for name, value in s3.env.items():
            monkeypatch.setenv(name, value)
        root = f"s3://{s3.bucket}/hosts"
        path = write_recipe(tmp_path / "r.yaml", distributed(local, root, address, driver))
        env = {**server_.env, **s3.env}
        node = [str(GRISTMILL), "train-node", str(path), "--model", "pair"]
        node_env = {**env, "GRISTMILL_CACHE": str(tmp_path / "cache")}
        (tmp_path / "cache").mkdir()
        models = Path.home() / ".cache" / "gristmill" / "models"
        (tmp_path / "cache" / "models").symlink_to(models)
        joined = stack.enter_context(on_host(trainer, tmp_path / "trainer.log", node, node_env))
        command = [str(GRISTMILL), "run", str(path)]
        running = stack.enter_context(on_host(driver, tmp_path / "driver.log", command, env))

        files = Storage(root)
        cuts = {"acquire": first, "annotate": scheduler, "dedup": store, "select": prefect}
        for stage, host in cuts.items():
            wait_for(lambda s=stage: _committed(files, s) or running.poll(), running)  # type: ignore[misc]
            with cut(host):
                pass
        wait_for(lambda: _has_checkpoint(files) or running.poll(), running)
        with cut(trainer):
            pass
        code = running.wait(WAIT_TIMEOUT_S)
        logs = {path.name: path.read_text()[-3000:] for path in tmp_path.glob("*.log")}
        assert code == 0, logs
        assert joined.wait(WAIT_TIMEOUT_S) == 0, logs
        got = {
            name: files.read(name) for name in files.list_files() if not name.startswith(VOLATILE)
        }
    go(local, until="evaluate")
    expected = data_bytes(tmp_path / "local")
    assert _deciding(got) == _deciding(expected)


def _committed(files: Storage, stage: str) -> bool:
    return any(name.endswith("/manifest.json") for name in files.list_files(stage))


def _has_checkpoint(files: Storage) -> bool:
    return any(name.endswith("/complete.json") for name in files.list_files("running"))


def _deciding(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the parts, shards and weights."""
    kinds = (".parquet", ".bin", ".idx", ".safetensors")
    return {name: data for name, data in files.items() if name.endswith(kinds)}
