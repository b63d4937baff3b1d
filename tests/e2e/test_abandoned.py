"""Nothing that a test has started outlives its pytest process."""

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.limits import wait_for
from tests.processes import ROOT, is_alive, process_tree

pytestmark = pytest.mark.e2e


def test_what_tests_started_ends_with_a_killed_pytest_worker(tmp_path: Path) -> None:
    report = tmp_path / "processes"
    options = ["-n", "1", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'inner'}"]
    command = [sys.executable, "-m", "pytest", *options, str(ROOT / "tests" / "abandoned.py")]
    env = {**os.environ, "REPORT": str(report)}
    with (
        (tmp_path / "log").open("wb") as log,
        process_tree(command, env, cwd=ROOT, stdout=log, stderr=log) as session,
    ):
        wait_for(report.exists, session)
        worker, *children = (psutil.Process(int(pid)) for pid in report.read_text().split())
        # A daemon, a child, the Dask worker, the server of forks and its fork, two resource trackers.
        assert len(children) >= 5
        os.kill(worker.pid, signal.SIGKILL)
        wait_for(lambda: not any(is_alive(child) for child in children))
