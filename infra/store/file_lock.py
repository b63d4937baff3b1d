"""One process of this machine at a time."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def file_lock(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Wait until no other process, or thread, holds the lock of this file, and hold it.

    The file exists while the lock is held or waited for. The lock of a process that dies is free.

    Args:
        path: the file; its folder exists.
        on_wait: called once if another holds the lock; what it raises ends the wait.
    """
    while True:
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if on_wait is not None:
                    on_wait()
                    on_wait = None
                fcntl.flock(file, fcntl.LOCK_EX)
            # Who held it before may have removed the file: others then lock a new one.
            if not _is_same_file(path, file.fileno()):
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
