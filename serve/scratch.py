"""Folders for the files of one process, which outlive it at most until the next server starts.

The lock of a folder, a file beside it, is held for as long as its process lives, whatever ends that. A folder whose
lock is free is left over; one that has none is not of a server.
"""

import logging
import os
import shutil
import tempfile
import weakref
from contextlib import ExitStack, suppress
from pathlib import Path

from infra.store.file_lock import file_lock

log = logging.getLogger(__name__)

PREFIX, LOCK_SUFFIX = "gristmill-serve-", ".lock"


class ScratchFolder:
    """A new folder below ``$TMPDIR``, deleted by ``delete`` or with the object.

    Attributes:
        path: the folder.
    """

    def __init__(self) -> None:
        descriptor, lock = tempfile.mkstemp(LOCK_SUFFIX, PREFIX)
        os.close(descriptor)
        self.path = Path(lock.removesuffix(LOCK_SUFFIX))
        with ExitStack() as stack:
            stack.enter_context(file_lock(Path(lock)))
            self.path.mkdir(0o700)
            self._delete = weakref.finalize(self, _delete, self.path, stack.pop_all())

    def delete(self) -> None:
        """Delete the folder; a second call does nothing."""
        self._delete()


def _delete(path: Path, lock: ExitStack) -> None:
    shutil.rmtree(path, ignore_errors=True)
    lock.close()


def delete_abandoned() -> None:
    """Delete the folders of processes that were killed."""
    for lock in Path(tempfile.gettempdir()).glob(f"{PREFIX}*{LOCK_SUFFIX}"):
        path = lock.with_suffix("")
        # It may be held, of another user, or just deleted by another process.
        with suppress(OSError), file_lock(lock, on_wait=_refuse_to_wait):
            if path.is_dir():
                shutil.rmtree(path)
                log.info("%s was left over from a server that was killed, and is deleted", path)


def _refuse_to_wait() -> None:
    raise BlockingIOError
