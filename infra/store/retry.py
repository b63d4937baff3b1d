"""What is done with a store that may be away for a while."""

import errno
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from infra.store.storage import Storage, StorageError

log = logging.getLogger(__name__)

T = TypeVar("T")
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0  # seconds
# A disk that files come to or from: no store mends it.
DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})


class StoreAway(StorageError):
    """A store that did not answer for as long as it was waited for."""


def insist(what: str, do: Callable[[], T], patience: float) -> T:
    """Do something with a store, again and again while the store cannot be reached.

    Args:
        what: for the log and the error, such as ``writing s3://...``.
        do: may be done twice without harm.
        patience: seconds after the first failure until it is given up.

    Raises:
        StoreAway: when patience is at its end.
        FileNotFoundError: at once: the store has answered.
        OSError: at once, if a disk is full or cannot be written to.
    """
    began, pause = time.monotonic(), FIRST_PAUSE
    while True:
        try:
            return do()
        except FileNotFoundError:
            raise
        except Exception as error:  # clients of object stores raise what they like
            if isinstance(error, OSError) and error.errno in DISK:
                raise
            waited = time.monotonic() - began
            if waited + pause > patience:
                raise StoreAway(
                    f"{what}: the store has not answered for {waited:.0f} s "
                    f"({type(error).__name__}: {error})"
                ) from error
            log.warning("%s failed (%s); again in %.1f s", what, error, pause)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def ask(store: Storage, what: str, do: Callable[[], T], patience: float) -> T:
    """Do something with a store at once; with one that is elsewhere as ``insist`` does."""
    return do() if store.is_local else insist(what, do, patience)
