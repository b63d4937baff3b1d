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

from tests.e2e.command import environment, gristmill, start, write_recipe
from tests.e2e.corpora import mixed, recipe
from tests.limits import WAIT_TIMEOUT_S, wait_for
from tests.processes import process_tree
from tests.train_entry import train_entry

pytestmark = pytest.mark.e2e

TRAINER, SERVER = "lm.train.worker", "prefect.server.api.server:create_app"


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


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def find(processes: list[psutil.Process], word: str) -> list[psutil.Process]:
    """Return the processes whose command contains a word."""
    return [process for process in processes if word in command_of(process)]


def shared_semaphores(pid: int) -> set[Path]:
    """Return the files in shared memory of the named semaphores that a process has open.

    They are compared by inode, because glibc gives a semaphore its name after it has mapped it.
    """
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    mapped = {int(line.split()[4]) for line in lines if "/dev/shm/sem." in line}
    return {path for path in Path("/dev/shm").glob("sem.mp-*") if path.stat().st_ino in mapped}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_stopped_run_leaves_no_process_and_starts_no_other(tmp_path: Path) -> None:
    """A run is stopped by a closed terminal, the next one by SIGKILL, and so on."""
    home, cache, temporary = (tmp_path / name for name in ("home", "cache", "tmp"))
    cache.mkdir()
    temporary.mkdir()
    (cache / "models").symlink_to(tmp_path.home() / ".cache" / "gristmill" / "models")
    env = {"GRISTMILL_CACHE": str(cache), "TMPDIR": str(temporary)}
    value = recipe(
        tmp_path / "data", mixed(tmp_path / "in"), train=[endless("one"), endless("two")]
    )
    path = write_recipe(tmp_path / "r.yaml", value)

    with start(home, "run", str(path), env=env) as run:
        wait_for(lambda: any(cache.glob("train/*/checkpoints/*")), run)
        assert find(run.members(), TRAINER)
        assert find(run.members(), SERVER)
        semaphores = shared_semaphores(run.pid)
        assert semaphores
        os.killpg(run.pid, signal.SIGHUP)  # to the whole group, as when an ssh session ends
        assert run.wait(WAIT_TIMEOUT_S) != 0
        # The resource tracker ends a little later.
        wait_for(lambda: not run.members() and not any(path.exists() for path in semaphores))
        assert not [*temporary.glob("torchelastic*")]
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        with (
            (tmp_path / "err").open("wb") as err,
            start(home, "run", str(path), env=env, stderr=err) as run,
        ):
            wait_for(lambda: find(run.members(), TRAINER), run)
            if number == signal.SIGTERM:  # as systemd and timeout(1) do it: to the whole group
                os.killpg(run.pid, number)
            else:
                os.kill(run.pid, number)
            assert run.wait(WAIT_TIMEOUT_S) != 0
            wait_for(lambda: not run.members())
        messages = (tmp_path / "err").read_text()
        assert "Traceback" not in messages
        if number != signal.SIGKILL:
            assert messages.count("error: ") == 1
            last = max((tmp_path / "data" / "runs" / "small").glob("*.json"))
            assert json.loads(last.read_text())["state"] == "cancelled"
    assert len(list(cache.glob("train/*/checkpoints"))) == 1, "the second model must not start"
    again = gristmill(home, "run", str(path), "--until", "tokenize", "--json")
    assert again.code == 0
    assert all(stage["cached"] for stage in again.value["stages"])


@pytest.mark.parametrize("delay_s", [0.1, 0.3, 0.6, 1.0, 2.0])
def test_an_interrupt_while_the_command_starts_prints_no_traceback(
    tmp_path: Path, delay_s: float
) -> None:
    value = recipe(tmp_path / "data", mixed(tmp_path / "in", 20), cluster={"workers": 0})
    path = write_recipe(tmp_path / "r.yaml", value)
    # Before Python has started, no code of ours can decide what an interrupt does.
    program = "import sys, cli.__main__ as program; print('ready', flush=True); program.main()"
    command = [sys.executable, "-c", program, "run", str(path)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with process_tree(command, environment(tmp_path / "home"), **pipes) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"ready\n"
        time.sleep(delay_s)
        os.killpg(run.pid, signal.SIGINT)
        _, messages = run.communicate(timeout=WAIT_TIMEOUT_S)
    assert run.returncode != 0
    assert b"Traceback" not in messages


def test_a_killed_run_ends_its_ephemeral_server(tmp_path: Path) -> None:
    value = recipe(tmp_path / "data", mixed(tmp_path / "in", 20), cluster={"workers": 0})
    path = write_recipe(tmp_path / "r.yaml", value)
    with start(tmp_path / "home", "run", str(path)) as run:
        wait_for(lambda: find(run.members(), SERVER), run)
        os.kill(run.pid, signal.SIGKILL)
        wait_for(lambda: not run.members())
