"""Errors of steps: which are worth another attempt, and what a reader is told."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from infra.errors import UserError
from infra.store.retry import is_transient
from infra.store.storage import Storage, StorageError
from infra.store.writable import check_writable, is_disk_error

MAX_RETRIES, RETRY_DELAYS_S = 2, (5.0, 30.0)  # of a task, for storage and network errors only


def retry_settings() -> dict[str, Any]:
    """Return the arguments of a Prefect task that is tried again."""
    return {
        "retries": MAX_RETRIES,
        "retry_delay_seconds": list(RETRY_DELAYS_S),
        "retry_condition_fn": is_retryable,
    }


def is_retryable(_task: Any, _run: Any, state: Any) -> bool:
    """Whether another attempt at a step can help: for storage and network errors only."""
    try:
        state.result()
    except Exception as error:  # noqa: BLE001 - of any step
        return is_transient(error)
    return False


@contextmanager
def explain_storage_error(storage: Storage) -> Iterator[None]:
    """Replace the error of a full disk, or of a store that refuses access, by one that says what to do."""
    try:
        yield
    except Exception as error:
        if is_disk_error(error):
            check_writable(storage)
        if isinstance(error, PermissionError) and not storage.is_local:
            raise StorageError(
                f"access to {storage.url} or to an input was denied ({error}); if credentials have "
                "expired, renew them where the run starts, and run again: finished work is reused"
            ) from error
        raise


def format_error(error: BaseException) -> str:
    """Return an error in a line: its first line, and its last one if it is another."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ... ".join(dict.fromkeys([*lines[:1], *lines[-1:]])) or type(error).__name__
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
