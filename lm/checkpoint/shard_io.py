"""Write the shards of a checkpoint from all processes; an error on one is raised on all."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.distributed import ProcessGroup, all_gather_object, get_world_size
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import save

from infra.errors import UserError
from infra.store.retry import FATAL_DISK_ERRNOS, StorageUnavailableError

FATAL_ERRNOS = FATAL_DISK_ERRNOS | {errno.EACCES, errno.EPERM}  # a restart would fail again


class CheckpointSaveError(UserError):
    """A checkpoint that could not be written; raised on all processes."""


class RankFailedError(Exception):
    """An error of one process, raised on all; no ``UserError``, because a restart may succeed."""


class ShardWriter(FileSystemWriter):
    """Writes shards, and raises the operating system's error if that fails."""

    def write_data(self, *args: Any) -> Any:
        """Write as torch does, which on a full disk raises ``unexpected pos 704 vs 598``."""
        try:
            return super().write_data(*args)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def write_shards(state: dict[str, Any], folder: Path, group: ProcessGroup | None) -> None:
    """Write this process's shards and, on the first process, their metadata.

    Raises:
        CheckpointSaveError: if the disk of a process is full or not writable.
        CheckpointException: for any other error; a restart may succeed.
    """
    try:
        save(state, storage_writer=ShardWriter(folder), process_group=group)
    except CheckpointException as error:
        # torch raises this on all processes, after each of them has done what it can.
        fatal = [rank for rank, (cause, _) in error.failures.items() if _is_fatal(cause)]
        if not fatal:
            raise
        rank = min(fatal)
        raise CheckpointSaveError(
            f"{folder}: the checkpoint cannot be written (process {rank}: "
            f"{error.failures[rank][0]}); fix that and run again to resume from the previous one"
        ) from error


def run_on_all_ranks(
    group: ProcessGroup | None, description: str, operation: Callable[[], None]
) -> None:
    """Run this process's part of an operation and wait for the others.

    Args:
        group: of all processes; ``None`` if there is one.
        description: what is done, for errors.
        operation: this process's part.

    Raises:
        StorageUnavailableError: on all processes, if that was the first process's error.
        CheckpointSaveError: on all processes, if it was another ``UserError``, or the disk is full
            or not writable.
        RankFailedError: on all processes, if it was anything else; a restart may succeed.
    """
    error: Exception | None = None
    try:
        operation()
    except Exception as caught:  # noqa: BLE001 - raised after the other processes know of it
        error = caught
    failure = None if error is None else _classify(error, description)
    failures: list[Any] = [failure]
    if group is not None:
        failures *= get_world_size(group)
        all_gather_object(failures, failure, group=group)
    raised = [item for item in failures if item is not None]
    if raised:
        kind, text = raised[0]
        raise kind(text) from error


def _classify(error: Exception, description: str) -> tuple[type[Exception], str]:
    """Return what all processes raise for an error of this one: type and message."""
    is_user_error = isinstance(error, UserError)
    text = str(error) if is_user_error else f"{description}: {type(error).__name__}: {error}"
    if isinstance(error, StorageUnavailableError):
        return StorageUnavailableError, text
    return (CheckpointSaveError if is_user_error or _is_fatal(error) else RankFailedError), text


def _is_fatal(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in FATAL_ERRNOS
