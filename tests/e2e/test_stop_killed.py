"""A run that is killed or interrupted starts nothing more and leaves no process."""

import os
import signal
from pathlib import Path

import pytest

from tests.e2e.command import start, write_recipe
from tests.e2e.corpora import mixed, recipe
from tests.e2e.endless import SERVER, EndlessRun, find
from tests.limits import wait_for

pytestmark = pytest.mark.e2e


def test_a_killed_and_an_interrupted_run_leave_no_process_and_start_no_other(
    tmp_path: Path,
) -> None:
    endless = EndlessRun.in_folder(tmp_path)
    endless.stop_with(signal.SIGKILL, whole_group=False)
    endless.stop_with(signal.SIGINT, whole_group=False)
    endless.check_resumable()


def test_a_killed_run_ends_its_ephemeral_server(tmp_path: Path) -> None:
    value = recipe(tmp_path / "data", mixed(tmp_path / "in", 20), cluster={"workers": 0})
    path = write_recipe(tmp_path / "r.yaml", value)
    with start(tmp_path / "home", "run", str(path)) as run:
        wait_for(lambda: find(run.members(), SERVER), run)
        os.kill(run.pid, signal.SIGKILL)
        wait_for(lambda: not run.members())
