"""A lock keeps others out, also those that wait while its file is removed."""

import os
import threading
from pathlib import Path

from infra.store.file_lock import file_lock
from tests.limits import WAIT_TIMEOUT_S


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    """Each holder removes the file, so that those who wait for it must notice."""
    path, rounds = tmp_path / "x.lock", 50
    inside, most, entered = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, entered
        for _ in range(rounds):
            with file_lock(path):
                inside += 1
                most = max(most, inside)
                entered += 1
                for _ in range(3):
                    os.sched_yield()  # lets another thread run, if it is not kept out
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_TIMEOUT_S)
    assert (most, entered) == (1, 8 * rounds)
    assert not path.exists()


def test_who_waits_says_so_once(tmp_path: Path) -> None:
    path, waits = tmp_path / "x.lock", threading.Event()
    released = []

    def work() -> None:
        with file_lock(path, waits.set):
            released.append(waits.is_set())

    with file_lock(path, lambda: released.append(False)):
        thread = threading.Thread(target=work)
        thread.start()
        assert waits.wait(WAIT_TIMEOUT_S)
        assert not released
    thread.join(WAIT_TIMEOUT_S)
    assert released == [True]
