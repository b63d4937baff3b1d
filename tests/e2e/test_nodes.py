"""Multi-node training on two machines: network namespaces with a virtual link and a shared folder."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load

from infra.dataset.dataset import Dataset, open_dataset
from infra.dataset.manifest import MANIFEST
from infra.store.cache_dir import ENV_VAR
from infra.store.storage import Storage
from lm.config.train import TrainConfig
from lm.launch import torchrun
from lm.launch.node import run_node
from lm.launch.rendezvous import rendezvous_store
from lm.models.registry import parse_entry
from tasks.train import task
from tests.caches import make_cache
from tests.hosts import Host, hosts
from tests.limits import WAIT_TIMEOUT_S, wait_for
from tests.lm.corpora import context, tiny, token_shards
from tests.processes import ROOT, TreeProcess, process_tree
from tests.train_entry import in_steps, replace_fields

pytestmark = pytest.mark.e2e

CONFIG = tiny(
    name="pair",
    train_tokens=60 * 128,
    num_processes=2,
    checkpoint_interval=10,
    max_restarts=2,
    dropout=0.1,
)


def first_machine(store: str, config: TrainConfig) -> Dataset:
    """Do what the task of a flow does."""
    tokens, ctx = token_shards(store), context(store)
    spec = task.spec(ctx, config=config, tokens=tokens)
    return task.build(ctx, spec, config=config, tokens=tokens)


def second_machine(store: str, config: TrainConfig) -> None:
    """Do what `gristmill train-node` does."""
    spec = task.spec(context(store), config=config, tokens=token_shards(store))
    rendezvous = rendezvous_store(config, spec.folder.rsplit("/", 1)[-1])

    def print_line(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    assert rendezvous is not None
    manifest = Storage(store).subdir(*spec.folder.split("/"))
    run_node(
        config,
        rendezvous,
        is_committed=lambda: manifest.exists(MANIFEST),
        is_superseded=lambda: False,
        on_status=print_line,
    )


def replace_worker(module: str) -> None:
    """Let the launcher start another module instead of the worker."""
    real = torchrun.command

    def command(*args: Any, **kwargs: Any) -> list[str]:
        line = real(*args, **kwargs)
        return [module if word == "lm.train.worker" else word for word in line]

    torchrun.command = command


if __name__ == "__main__":
    role, store_path, config_json, module = sys.argv[1:]
    replace_worker(module)
    run = {"first": first_machine, "second": second_machine}[role]
    run(store_path, in_steps(parse_entry(json.loads(config_json))))
    sys.exit()


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Host, Host]]:
    """Two machines."""
    with hosts("first", "second") as (first, second):
        yield first, second


@contextmanager
def machine(
    host: Host, role: str, store: Path, config: TrainConfig, log: Path, worker: str
) -> Iterator[TreeProcess]:
    """Run one of the machines while the block lasts, with a separate cache."""
    words = [sys.executable, "-m", "tests.e2e.test_nodes", role, str(store)]
    with (
        log.open("wb") as sink,
        process_tree(
            [*host.prefix, *words, config.model_dump_json(), worker],
            {**os.environ, ENV_VAR: str(make_cache(log.with_suffix(".cache")))},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        yield process


def training_processes(machine: TreeProcess) -> list[psutil.Process]:
    """Return the training processes of a machine, one per rank."""
    ranks = []
    for member in machine.members():
        try:
            command = " ".join(member.cmdline())
        except psutil.Error:
            continue
        if "-m lm.train.worker" in command and "torch.distributed.run" not in command:
            ranks.append(member)
    return ranks


def on_two_machines(
    pair: tuple[Host, Host],
    folder: Path,
    config: TrainConfig,
    watch: Callable[[TreeProcess, TreeProcess], None],
    worker: str = "lm.train.worker",
) -> tuple[Dataset, str]:
    """Train on both machines, calling ``watch`` meanwhile; return the model and the second's output."""
    store = folder / "store"
    token_shards(store)
    logs = [folder / "first.log", folder / "second.log"]
    with machine(pair[1], "second", store, config, logs[1], worker) as second:
        wait_for(lambda: "waiting for the first node" in logs[1].read_text(), second)
        with machine(pair[0], "first", store, config, logs[0], worker) as first:
            while first.poll() is None:
                watch(first, second)
                time.sleep(0.02)
            assert first.wait() == 0, [log.read_text() for log in logs]
            assert second.wait(WAIT_TIMEOUT_S) == 0, logs[1].read_text()
            wait_for(lambda: not first.members() and not second.members())
    (made,) = (store / "train").glob("pair-*")
    return open_dataset(Storage(str(made))), logs[1].read_text()


def attempts(made: Dataset) -> list[dict[str, Any]]:
    return [json.loads(line) for line in made.read("logs/attempts.jsonl").splitlines()]


def test_two_machines_train_the_model_of_one_and_survive_a_killed_process(
    pair: tuple[Host, Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = tmp_path / "running"
    config = replace_fields(
        CONFIG, num_nodes=2, rendezvous=f"{pair[0].address}:29431", checkpoint_url=str(running)
    )
    killed: list[psutil.Process] = []

    def kill(first: TreeProcess, second: TreeProcess) -> None:
        ready = any(running.glob("*/step-*/complete.json"))
        if not killed and ready and training_processes(second):
            assert len(training_processes(first)) == len(training_processes(second)) == 1
            killed.extend(training_processes(second))
            killed[0].kill()

    two, output = on_two_machines(pair, tmp_path, config, kill)
    assert killed
    assert output.count("training pair with 1 processes") == 2
    assert not any(running.rglob("job.json"))

    monkeypatch.setenv(ENV_VAR, str(make_cache(tmp_path / "cache")))
    one = first_machine(str(tmp_path / "alone"), CONFIG)
    assert one.fingerprint == two.fingerprint
    assert [item["step"] > 0 for item in attempts(two)] == [False, True]
    weights = [load(made.read("model.safetensors")) for made in (one, two)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_diverged_weights_are_rolled_back_on_both_machines(
    pair: tuple[Host, Host], tmp_path: Path
) -> None:
    running = tmp_path / "running"
    nodes = {
        "num_nodes": 2,
        "rendezvous": f"{pair[0].address}:29432",
        "checkpoint_url": str(running),
    }
    short = {"train_tokens": 20 * 128, "checkpoint_interval": 4, "keep_last": 9}
    config = replace_fields(CONFIG, **nodes, **short)
    made, output = on_two_machines(pair, tmp_path, config, lambda *_: None, "tests.e2e.poisoned")
    assert output.count("training pair with 1 processes") == 2
    (rollback,) = json.loads(made.read("logs/rollbacks.json"))
    assert (rollback["kind"], rollback["skipped_steps"]) == ("not_finite", [13, 15])
    # Checkpoints are written in the background: on a busy machine the last one is not complete yet.
    assert rollback["from_step"] in (8, 12)
    assert made.stats["skip"] == [[13, 15]]
    assert [(item["step"], item["processes"]) for item in attempts(made)] == [
        (0, 2),
        (rollback["from_step"], 2),
    ]
    assert made.stats["steps"] == 20
    assert not any(path.is_file() for path in running.rglob("*"))
