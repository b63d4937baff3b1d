"""A run that is stopped starts nothing more and leaves no process."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.e2e.command import start
from tests.e2e.endless import SERVER, TRAINER, EndlessRun, find
from tests.limits import WAIT_TIMEOUT_S, wait_for

pytestmark = pytest.mark.e2e


def shared_semaphores(pid: int) -> set[Path]:
    """Return the files in shared memory of the named semaphores that a process has open.

    They are compared by inode, because glibc gives a semaphore its name after it has mapped it.
    """
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    mapped = {int(line.split()[4]) for line in lines if "/dev/shm/sem." in line}
    return {path for path in Path("/dev/shm").glob("sem.mp-*") if path.stat().st_ino in mapped}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_stopped_run_leaves_no_process_and_starts_no_other(tmp_path: Path) -> None:
    """A run is stopped by a closed terminal, and the next ones by other signals."""
    endless = EndlessRun.in_folder(tmp_path)
    with start(endless.home, "run", str(endless.path), env=endless.env) as run:
        wait_for(lambda: any(endless.cache.glob("train/*/checkpoints/*")), run)
        assert find(run.members(), TRAINER)
        assert find(run.members(), SERVER)
        semaphores = shared_semaphores(run.pid)
        assert semaphores
        os.killpg(run.pid, signal.SIGHUP)  # to the whole group, as when an ssh session ends
        assert run.wait(WAIT_TIMEOUT_S) != 0
        # The resource tracker ends a little later.
        wait_for(lambda: not run.members() and not any(path.exists() for path in semaphores))
        assert not [*endless.temporary.glob("torchelastic*")]
    # As systemd and timeout(1) do it: to the whole group.
    endless.stop_with(signal.SIGTERM, whole_group=True)
    # By a user who names the process: the others learn of its end by themselves.
    endless.stop_with(signal.SIGKILL, whole_group=False)
    endless.stop_with(signal.SIGINT, whole_group=False)
    endless.check_resumable()
