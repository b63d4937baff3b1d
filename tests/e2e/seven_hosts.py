"""Everything that a run needs, each on a host with an address of its own."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.store.storage import Storage
from tests.caches import make_cache
from tests.e2e.command import GRISTMILL, PREFECT, environment, write_recipe
from tests.e2e.corpora import mixed, recipe
from tests.hosts import Host, hosts
from tests.processes import ROOT, TreeProcess, process_tree
from tests.servers import server, weed
from tests.train_entry import train_entry

DASK = str(Path(sys.executable).parent / "dask")
NAMES = ("store", "prefect", "scheduler", "worker-1", "worker-2", "driver", "trainer")


def pair_entry(steps: int, max_restarts: int) -> dict[str, Any]:
    """Return the entry of a model that two processes train, with a checkpoint every 50 steps."""
    return train_entry(
        precision="fp32",
        name="pair",
        num_layers=1,
        hidden_size=32,
        num_heads=2,
        context_length=64,
        global_batch_size=4,
        train_tokens=steps * 256,
        num_processes=2,
        checkpoint_interval=50,
        max_restarts=max_restarts,
    )


def pair_recipe(folder: Path) -> dict[str, Any]:
    """Return a recipe for one host: a small corpus, and a model that two processes train."""
    entry = pair_entry(400, max_restarts=2)
    corpus = mixed(folder / "in")
    storage = folder / "local"
    return recipe(storage, corpus, cluster={"workers": 0}, train=[entry], evaluate={})


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


@dataclass(frozen=True)
class SevenHosts:
    """Seven hosts with their servers.

    Attributes:
        folder: of logs and scratch files.
        hosts: by their names.
        env: the environment of clients of the servers.
        bucket: of the object store.
    """

    folder: Path
    hosts: Mapping[str, Host]
    env: Mapping[str, str]
    bucket: str

    def recipe(self, local: Mapping[str, Any], name: str) -> dict[str, Any]:
        """Return the recipe of the same results on these hosts, in a store of its own."""
        root = f"s3://{self.bucket}/{name}"
        run = {"num_nodes": 2, "rendezvous": f"{self.hosts['driver'].address}:29400"}
        entry = dict(local["train"][0])
        entry["run"] = {**entry["run"], **run, "checkpoint_url": f"{root}/running"}
        scheduler = f"tcp://{self.hosts['scheduler'].address}:8786"
        return {**local, "storage": root, "cluster": {"address": scheduler}, "train": [entry]}

    @contextmanager
    def run(self, value: Mapping[str, Any], name: str) -> Iterator[tuple[TreeProcess, TreeProcess]]:
        """Run a recipe on the driver, and the second node of its training on the trainer."""
        path = write_recipe(self.folder / f"{name}.yaml", value)
        cache = make_cache(self.folder / f"cache-{name}")
        node = [str(GRISTMILL), "train-node", str(path), "--model", "pair"]
        node_env = {**self.env, "GRISTMILL_CACHE": str(cache)}
        command = [str(GRISTMILL), "run", str(path)]
        driver_log, trainer_log = (self.folder / f"{name}-{end}.log" for end in ("run", "node"))
        with (
            on_host(self.hosts["trainer"], trainer_log, node, node_env) as trainer,
            on_host(self.hosts["driver"], driver_log, command, self.env) as driver,
        ):
            yield driver, trainer

    def logs(self) -> dict[str, str]:
        """Return the ends of all logs."""
        return {path.name: path.read_text()[-3000:] for path in self.folder.glob("*.log")}


@contextmanager
def seven_hosts(folder: Path) -> Iterator[SevenHosts]:
    """Start the hosts and their servers."""
    with hosts(*NAMES) as made, ExitStack() as stack:
        by_name = dict(zip(NAMES, made, strict=True))
        store, prefect, scheduler = made[:3]
        s3 = stack.enter_context(weed(folder / "weed", store.address, store.prefix).running())
        api = f"http://{prefect.address}:4200/api"
        env = {**environment(folder / "home", PREFECT_API_URL=api), **s3.env}
        command = [*prefect.prefix, PREFECT, "server", "start", "--host", prefect.address]
        server_env = {**env, "PREFECT_API_URL": ""}
        stack.enter_context(server(command, folder / "prefect.log", f"{api}/health", server_env))
        address = f"tcp://{scheduler.address}:8786"
        command = [DASK, "scheduler", "--host", scheduler.address, "--no-dashboard"]
        stack.enter_context(on_host(scheduler, folder / "scheduler.log", command, env))
        for name in ("worker-1", "worker-2"):
            command = [DASK, "worker", address, "--host", by_name[name].address]
            command += ["--nthreads", "1", "--no-dashboard"]
            command += ["--local-directory", str(folder / name)]
            stack.enter_context(on_host(by_name[name], folder / f"{name}.log", command, env))
        yield SevenHosts(folder, by_name, env, s3.bucket)


def has_reached(files: Storage, moment: str) -> bool:
    """Return whether a run has committed a stage, or saved a ``checkpoint`` in its training."""
    folder, file = moment, "/manifest.json"
    if moment == "checkpoint":
        folder, file = "running", "/complete.json"
    return any(name.endswith(file) for name in files.list_files(folder))


def deciding(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the parts, shards and weights, without what says when and where something ran."""
    volatile = ("runs/", "reports/", "unit_cache/", "running/")
    kinds = (".parquet", ".bin", ".idx", ".safetensors")
    return {
        name: data
        for name, data in files.items()
        if name.endswith(kinds) and not name.startswith(volatile)
    }
