"""Folders for the files of one process, which outlive it at most until the next server starts.

A folder is locked for as long as its process lives, whatever ends that; a folder without a lock is left over.
"""

import fcntl
import logging
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

PREFIX = "gristmill-serve-"


class ScratchFolder:
    """A new folder below ``$TMPDIR``, deleted by ``delete``.

    Attributes:
        path: the folder.
    """

    def __init__(self) -> None:
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
            # Before it is locked, a server that starts now may take it for left over.
            with suppress(FileNotFoundError):
                self._lock = os.open(self.path, os.O_RDONLY)
                fcntl.flock(self._lock, fcntl.LOCK_EX)
                if self.path.is_dir():
                    return
                os.close(self._lock)

    def delete(self) -> None:
        """Delete the folder; a second call does nothing."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def delete_abandoned() -> None:
    """Delete the folders of processes that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # of another user, or just deleted by another process
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
                log.info("%s was left over from a server that was killed, and is deleted", path)
            finally:
                os.close(lock)
