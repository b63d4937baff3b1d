"""A command that is interrupted or killed while it starts: one line at most, and no process is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command import environment, start, write_recipe
from tests.e2e.corpora import mixed, recipe
from tests.e2e.endless import SERVER, endless, find
from tests.limits import WAIT_TIMEOUT_S, wait_for
from tests.processes import process_tree

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("delay_s", [0.1, 0.3, 0.6, 1.0, 2.0])
def test_an_interrupt_while_the_command_starts_prints_no_traceback(
    tmp_path: Path, delay_s: float
) -> None:
    value = recipe(
        tmp_path / "data",
        mixed(tmp_path / "in", 20),
        cluster={"workers": 0},
        train=[endless("one")],  # on a fast machine it would have ended before it is interrupted
    )
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
