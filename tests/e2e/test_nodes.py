"""Two machines in one training: two network namespaces, a cable between them, a folder they share."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load

from infra.dataset.dataset import MANIFEST, Dataset, open_dataset
from infra.store.cache_dir import ENV_VAR
from infra.store.storage import Storage
from lm.config.train import TrainConfig
from lm.launch import torchrun
from lm.launch.node import run_node
from lm.launch.rendezvous import rendezvous_store
from tasks.train import task
from tests.lm.corpora import context, tiny, token_shards
from tests.train_entry import replace_fields

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

FIRST, SECOND = "10.231.77.1", "10.231.77.2"
CONFIG = tiny(
    name="pair",
    train_tokens=60 * 128,
    num_processes=2,
    checkpoint_interval=10,
    max_restarts=2,
    dropout=0.1,
)


def first_machine(store: str, config: TrainConfig) -> Dataset:
    """What a flow's task does."""
    tokens, ctx = token_shards(store), context(store)
    spec = task.spec(ctx, config=config, tokens=tokens)
    return task.build(ctx, spec, config=config, tokens=tokens)


def second_machine(store: str, config: TrainConfig) -> None:
    """What `gristmill join` does."""
    spec = task.spec(context(store), config=config, tokens=token_shards(store))
    meet = rendezvous_store(config, spec.folder.rsplit("/", 1)[-1])

    def say(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    assert meet is not None
    manifest = Storage(store).subdir(*spec.folder.split("/"))
    run_node(config, meet, lambda: manifest.exists(MANIFEST), say)


def with_worker(module: str) -> None:
    """Let the launcher start another module instead of the worker."""
    real = torchrun.command

    def command(*given: Any, **named: Any) -> list[str]:
        line = real(*given, **named)
        return [module if word == "lm.train.worker" else word for word in line]

    torchrun.command = command


if __name__ == "__main__":
    part, where, described, module = sys.argv[1:]
    with_worker(module)
    do = {"first": first_machine, "second": second_machine}[part]
    do(where, TrainConfig.model_validate_json(described))
    sys.exit()


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def namespaces() -> Iterator[tuple[str, str]]:
    """Two network namespaces that reach each other and nothing else."""
    if sys.platform != "linux" or shutil.which("ip") is None:
        pytest.skip("network namespaces need Linux and the command ip")
    names = f"gm{os.getpid()}a", f"gm{os.getpid()}b"
    made = []
    try:
        try:
            for name in names:
                ip("netns", "add", name)
                made.append(name)
            ends = [f"{name[-8:]}v" for name in names]
            ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
            for name, end, address in zip(names, ends, (FIRST, SECOND), strict=True):
                ip("link", "set", end, "netns", name)
                ip("-n", name, "address", "add", f"{address}/24", "dev", end)
                ip("-n", name, "link", "set", end, "up")
                ip("-n", name, "link", "set", "lo", "up")
        except (subprocess.CalledProcessError, OSError) as error:
            told = getattr(error, "stderr", b"") or str(error).encode()
            pytest.skip(f"network namespaces cannot be made here: {told.decode().strip()}")
        yield names
    finally:
        for name in made:
            ip("netns", "delete", name)


def begin(
    namespace: str, part: str, store: Path, config: TrainConfig, log: Path, worker: str
) -> "subprocess.Popen[bytes]":
    """One of the machines, with a cache of its own."""
    words = [sys.executable, "-m", "tests.e2e.test_nodes", part, str(store)]
    with log.open("wb") as sink:
        return subprocess.Popen(
            ["ip", "netns", "exec", namespace, *words, config.model_dump_json(), worker],
            env={**os.environ, ENV_VAR: str(log.with_suffix(".cache"))},
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def below(process: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """The training processes of a machine."""
    family = psutil.Process(process.pid).children(recursive=True)
    found = []
    for member in family:
        try:
            words = member.cmdline()
        except psutil.Error:
            continue
        if "lm.train.worker" in words and "torch.distributed.run" not in words:
            found.append(member)
    return found


def on_two_machines(
    namespaces: tuple[str, str],
    folder: Path,
    config: TrainConfig,
    watch: Callable[["subprocess.Popen[bytes]", "subprocess.Popen[bytes]"], None],
    worker: str = "lm.train.worker",
) -> tuple[Dataset, str]:
    """The model that both make, and what the second one says; ``watch`` is called meanwhile."""
    store = folder / "store"
    token_shards(store)
    logs = [folder / "first.log", folder / "second.log"]
    second = begin(namespaces[1], "second", store, config, logs[1], worker)
    deadline = time.monotonic() + 240
    while "waiting for the first machine to start" not in logs[1].read_text():
        assert second.poll() is None, logs[1].read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    first = begin(namespaces[0], "first", store, config, logs[0], worker)
    try:
        while first.poll() is None and time.monotonic() < deadline:
            watch(first, second)
            time.sleep(0.02)
        told = [log.read_text() for log in logs]
        assert first.poll() == 0, told
        assert second.wait(60) == 0, told
    finally:
        for process in (first, second):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    (made,) = (store / "train").glob("pair-*")
    return open_dataset(Storage(str(made))), told[1]


def attempts(made: Dataset) -> list[dict[str, Any]]:
    return [json.loads(line) for line in made.read("logs/attempts.jsonl").splitlines()]


def test_two_machines_learn_what_one_does_and_outlive_a_killed_process(
    namespaces: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = tmp_path / "running"
    config = replace_fields(
        CONFIG, num_nodes=2, rendezvous=f"{FIRST}:29431", checkpoint_url=str(running)
    )
    killed: list[psutil.Process] = []

    def kill(first: "subprocess.Popen[bytes]", second: "subprocess.Popen[bytes]") -> None:
        ready = any(running.glob("*/step-*/complete.json"))
        if not killed and ready and below(second):
            assert len(below(first)) == len(below(second)) == 1
            killed.extend(below(second))
            killed[0].kill()

    two, told = on_two_machines(namespaces, tmp_path, config, kill)
    assert killed
    assert told.count("taking part in pair, 1 processes") == 2
    assert not any(running.rglob("job.json"))

    monkeypatch.setenv(ENV_VAR, str(tmp_path / "cache"))
    one = first_machine(str(tmp_path / "alone"), CONFIG)
    assert one.fingerprint == two.fingerprint
    assert [item["step"] > 0 for item in attempts(two)] == [False, True]
    weights = [load(made.read("model.safetensors")) for made in (one, two)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_spoilt_weights_open_a_branch_on_both_machines(
    namespaces: tuple[str, str], tmp_path: Path
) -> None:
    running = tmp_path / "running"
    how = {"num_nodes": 2, "rendezvous": f"{FIRST}:29432", "checkpoint_url": str(running)}
    short = {"train_tokens": 20 * 128, "checkpoint_interval": 4, "keep_last": 9}
    config = replace_fields(CONFIG, **how, **short)
    made, told = on_two_machines(
        namespaces, tmp_path, config, lambda *_: None, "tests.e2e.poisoned"
    )
    assert told.count("taking part in pair, 1 processes") == 2
    (branch,) = json.loads(made.read("logs/rollbacks.json"))
    assert (branch["from_step"], branch["kind"], branch["skipped_steps"]) == (
        12,
        "not_finite",
        [13, 15],
    )
    assert made.stats["skip"] == [[13, 15]]
    assert [(item["step"], item["processes"]) for item in attempts(made)] == [(0, 2), (12, 2)]
    assert made.stats["steps"] == 20
    assert not any(path.is_file() for path in running.rglob("*"))
