"""What is done with a store that may be away for a while."""

import errno
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from infra.store.storage import Storage, StorageError

log = logging.getLogger(__name__)

T = TypeVar("T")
MIN_BACKOFF_S, MAX_BACKOFF_S = 0.5, 15.0  # seconds
# A disk that files come to or from: no store mends it.
FATAL_DISK_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})


class StorageUnavailableError(StorageError):
    """A store that did not answer for as long as it was waited for."""


def retry(description: str, operation: Callable[[], T], timeout_s: float) -> T:
    """Do something with a store, again and again while the store cannot be reached.

    Args:
        description: for the log and the error, such as ``writing s3://...``.
        operation: may be done twice without harm.
        timeout_s: seconds after the first failure until it is given up.

    Raises:
        StorageUnavailableError: when patience is at its end.
        FileNotFoundError: at once: the store has answered.
        OSError: at once, if a disk is full or cannot be written to.
    """
    began, pause = time.monotonic(), MIN_BACKOFF_S
    while True:
        try:
            return operation()
        except FileNotFoundError:
            raise
        except Exception as error:  # clients of object stores raise what they like
            if isinstance(error, OSError) and error.errno in FATAL_DISK_ERRNOS:
                raise
            waited = time.monotonic() - began
            if waited + pause > timeout_s:
                raise StorageUnavailableError(
                    f"{description}: the store has not answered for {waited:.0f} s "
                    f"({type(error).__name__}: {error})"
                ) from error
            log.warning("%s failed (%s); again in %.1f s", description, error, pause)
            time.sleep(pause)
            pause = min(2 * pause, MAX_BACKOFF_S)


def retry_if_remote(
    store: Storage, description: str, operation: Callable[[], T], timeout_s: float
) -> T:
    """Do something with a store at once; with one that is elsewhere as ``retry`` does."""
    return operation() if store.is_local else retry(description, operation, timeout_s)
