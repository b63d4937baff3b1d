"""Retry storage operations while the store is unreachable, and nothing else."""

import errno
import logging
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from infra.errors import UserError
from infra.store.storage import Storage, StorageError

log = logging.getLogger(__name__)

T = TypeVar("T")
MIN_BACKOFF_S, MAX_BACKOFF_S = 0.5, 15.0  # seconds
# Packages whose errors are those of an object store or of the network to it.
STORAGE_CLIENTS = ("botocore", "aiobotocore", "aiohttp", "gcsfs", "azure")
# EBUSY: how s3fs reports that a server wants fewer requests. EREMOTEIO: an internal error of a server.
_TRANSIENT_ERRNOS = frozenset(
    {
        *(errno.EIO, errno.EREMOTEIO, errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.ESTALE),
        *(errno.ETIMEDOUT, errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET),
        *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN, errno.EPIPE),
    }
)
_TRANSIENT_STATUSES = (408, 425, 429)
# Errors of clients, by class name in their bases, of which no status is known.
_CONNECTION_ERRORS = frozenset(
    "ConnectionError HTTPClientError IncompleteReadError ClientConnectionError ClientPayloadError "
    "ServiceRequestError ServiceResponseError".split()
)


class StorageUnavailableError(StorageError):
    """A store that did not answer within the timeout."""


def is_storage_error(error: BaseException) -> bool:
    """Return whether an error comes from the client of an object store."""
    return type(error).__module__.split(".")[0] in STORAGE_CLIENTS


def is_transient(error: BaseException) -> bool:
    """Return whether a later attempt may succeed: the network or the server failed, not the request.

    A refused or a wrong request, a full disk and a mistake of ours stay as they are.
    """
    if isinstance(error, UserError | ssl.SSLCertVerificationError):
        return isinstance(error, StorageUnavailableError)
    if isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
        return True
    if is_storage_error(error):
        status, code = _http_status(error)
        if status is not None:
            return (
                status >= 500
                or status in _TRANSIENT_STATUSES
                or code in ("RequestTimeout", "SlowDown")
            )
        return bool(_CONNECTION_ERRORS & {base.__name__ for base in type(error).__mro__})
    if isinstance(error, OSError):
        by_path = (FileNotFoundError, FileExistsError, PermissionError)
        return error.errno in _TRANSIENT_ERRNOS or (
            error.errno is None and not isinstance(error, by_path)
        )
    return False


def _http_status(error: BaseException) -> tuple[int | None, str | None]:
    """Return the HTTP status and the server's code of a client's error, where it has one."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, Mapping):  # botocore
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status, response.get("Error", {}).get("Code")
    for name in ("status", "status_code", "code"):
        status = getattr(error, name, None)
        if isinstance(status, int) and status >= 100:
            return status, None
    return None, None


def retry(description: str, operation: Callable[[], T], timeout_s: float) -> T:
    """Run an operation on a store, and retry it while the store cannot be reached (`is_transient`).

    Args:
        description: for the log and the error, such as ``writing s3://...``.
        operation: idempotent.
        timeout_s: seconds after the first attempt after which the operation fails.

    Raises:
        StorageUnavailableError: if the timeout expires.
        Exception: at once, any other error of the operation.
    """
    start, backoff = time.monotonic(), MIN_BACKOFF_S
    while True:
        try:
            return operation()
        except Exception as error:
            if not is_transient(error):
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
