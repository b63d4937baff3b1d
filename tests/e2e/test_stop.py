"""A run that is stopped or killed starts nothing more and leaves no process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.command import gristmill, start, write_recipe
from tests.e2e.corpora import mixed, recipe
from tests.train_entry import train_entry

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


def endless(name: str) -> dict[str, Any]:
    """Return a training run that uses all cores for longer than any test."""
    return train_entry(
        name=name,
        num_layers=1,
        hidden_size=32,
        num_heads=2,
        context_length=64,
        train_tokens=500_000_000,
        num_processes=os.cpu_count() or 1,
        global_batch_size=os.cpu_count() or 1,
        checkpoint_interval=20,
    )


def descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def trainers(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if "lm.train.worker" in command_of(process)]


def wait_for_training(pid: int, cache: Path) -> list[psutil.Process]:
    """Return all processes of a run, once it has saved a checkpoint."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        if any(cache.glob("train/*/checkpoints/*")) and trainers(descendants(pid)):
            return descendants(pid)
        time.sleep(0.2)
    raise AssertionError("no training run started")


def have_ended(processes: list[psutil.Process], timeout_s: float = 30) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=timeout_s)
    return not [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def cache_with_models(folder: Path) -> Path:
    """Return a new cache folder that holds the models of language identification."""
    cache = folder / "cache"
    cache.mkdir()
    (cache / "models").symlink_to(folder.home() / ".cache" / "gristmill" / "models")
    return cache


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_a_stopped_run_leaves_no_process_and_starts_no_other(tmp_path: Path, how: int) -> None:
    cache = cache_with_models(tmp_path)
    value = recipe(
        tmp_path / "data", mixed(tmp_path / "in"), train=[endless("one"), endless("two")]
    )
    path = write_recipe(tmp_path / "r.yaml", value)
    with (tmp_path / "err").open("wb") as stderr:
        run = start(tmp_path / "home", "run", str(path), stderr=stderr, GRISTMILL_CACHE=str(cache))
    try:
        processes = wait_for_training(run.pid, cache)
    except AssertionError:
        run.kill()  # an endless training run would slow down all other tests
        raise
    assert any(
        "prefect.server.api.server:create_app" in command_of(process) for process in processes
    )
    if how == signal.SIGTERM:  # as systemd and timeout(1) do it: to every process of the group
        os.killpg(run.pid, how)
    else:
        os.kill(run.pid, how)
    assert run.wait(90) != 0
    messages = (tmp_path / "err").read_text()
    assert "Traceback" not in messages
    assert messages.count("error: ") == (how != signal.SIGKILL)
    assert have_ended(processes)
    assert len(list(cache.glob("train/*/checkpoints"))) == 1, "the second model must not start"
    if how != signal.SIGKILL:
        (record,) = (tmp_path / "data" / "runs" / "small").glob("*.json")
        assert json.loads(record.read_text())["state"] == "cancelled"
    again = gristmill(tmp_path / "home", "run", str(path), "--until", "tokenize", "--json")
    assert again.code == 0
    assert all(stage["cached"] for stage in again.value["stages"])


@pytest.mark.parametrize("delay_s", [0.1, 0.3, 0.6, 1.0, 2.0])
def test_an_interrupt_while_the_command_starts_prints_no_traceback(
    tmp_path: Path, delay_s: float
) -> None:
    value = recipe(tmp_path / "data", mixed(tmp_path / "in", 20), cluster={"workers": 0})
    path = write_recipe(tmp_path / "r.yaml", value)
    run = start(tmp_path / "home", "run", str(path), stderr=subprocess.PIPE)
    time.sleep(delay_s)
    os.killpg(run.pid, signal.SIGINT)
    _, messages = run.communicate(timeout=60)
    assert run.returncode != 0
    assert b"Traceback" not in messages


def test_a_killed_run_ends_its_ephemeral_server(tmp_path: Path) -> None:
    value = recipe(tmp_path / "data", mixed(tmp_path / "in", 20), cluster={"workers": 0})
    path = write_recipe(tmp_path / "r.yaml", value)
    run = start(tmp_path / "home", "run", str(path))
    deadline = time.monotonic() + 90
    servers: list[psutil.Process] = []
    while not servers and time.monotonic() < deadline and run.poll() is None:
        servers = [
            process
            for process in descendants(run.pid)
            if "prefect.server.api.server:create_app" in command_of(process)
        ]
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert servers
    assert have_ended(servers, 10)


def shared_semaphores(pid: int) -> set[Path]:
    """Return the files in shared memory of the named semaphores that a process has open.

    They are compared by inode, because glibc gives a semaphore its name after it has mapped it.
    """
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    mapped = {int(line.split()[4]) for line in lines if "/dev/shm/sem." in line}
    return {path for path in Path("/dev/shm").glob("sem.mp-*") if path.stat().st_ino in mapped}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_closed_terminal_ends_a_run_and_leaves_no_semaphore(tmp_path: Path) -> None:
    """SIGHUP goes to the whole process group, as when an ssh session ends."""
    value = recipe(tmp_path / "data", mixed(tmp_path / "in"), train=[endless("one")])
    path = write_recipe(tmp_path / "r.yaml", value | {"cluster": {"workers": 2}})
    cache, temporary = cache_with_models(tmp_path), tmp_path / "tmp"
    temporary.mkdir()
    run = start(
        tmp_path / "home", "run", str(path), GRISTMILL_CACHE=str(cache), TMPDIR=str(temporary)
    )
    try:
        processes = wait_for_training(run.pid, cache)
        semaphores = shared_semaphores(run.pid)
        assert semaphores
        os.killpg(run.pid, signal.SIGHUP)
        assert run.wait(60) != 0
        assert have_ended(processes)
        deadline = time.monotonic() + 30  # the resource tracker ends a little later
        while time.monotonic() < deadline and any(path.exists() for path in semaphores):
            time.sleep(0.1)
        assert not [path for path in semaphores if path.exists()]
        assert not [*temporary.glob("torchelastic*")]
    finally:
        run.kill()
        run.wait()
