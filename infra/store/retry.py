"""Retry storage operations while the store is unreachable."""

import errno
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from infra.store.storage import Storage, StorageError

log = logging.getLogger(__name__)

T = TypeVar("T")
MIN_BACKOFF_S, MAX_BACKOFF_S = 0.5, 15.0  # seconds
# Errors of a local disk, which a retry does not solve.
FATAL_DISK_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})


class StorageUnavailableError(StorageError):
    """A store that did not answer within the timeout."""


def retry(description: str, operation: Callable[[], T], timeout_s: float) -> T:
    """Run an operation on a store, and retry it while the store cannot be reached.

    Args:
        description: for the log and the error, such as ``writing s3://...``.
        operation: idempotent.
        timeout_s: seconds after the first attempt after which the operation fails.

    Raises:
        StorageUnavailableError: if the timeout expires.
        FileNotFoundError: at once, since the store has answered.
        OSError: at once, if a disk is full or cannot be written to.
    """
    start, backoff = time.monotonic(), MIN_BACKOFF_S
    while True:
        try:
            return operation()
        except FileNotFoundError:
            raise
        except Exception as error:  # clients of object stores have errors of their own
            if isinstance(error, OSError) and error.errno in FATAL_DISK_ERRNOS:
                raise
            waited = time.monotonic() - start
            if waited + backoff > timeout_s:
                raise StorageUnavailableError(
                    f"{description}: the store has not answered for {waited:.0f} s "
                    f"({type(error).__name__}: {error})"
                ) from error
            log.warning("%s failed (%s); retry in %.1f s", description, error, backoff)
            time.sleep(backoff)
            backoff = min(2 * backoff, MAX_BACKOFF_S)


def retry_if_remote(
    store: Storage, description: str, operation: Callable[[], T], timeout_s: float
) -> T:
    """Run an operation once on a local store, and as ``retry`` does on a remote one."""
    return operation() if store.is_local else retry(description, operation, timeout_s)
