"""A checkpoint's files on this machine, written by all processes; an error of one is one of all."""

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
from lm.metrics.meter import local_rank

FATAL_ERRNOS = FATAL_DISK_ERRNOS | {errno.EACCES, errno.EPERM}  # no use in starting over


class CheckpointSaveError(UserError):
    """A checkpoint that could not be written, on all processes alike."""


class RankFailedError(Exception):
    """What went wrong on one process, on all processes alike; no ``UserError``: it may pass."""


class ShardWriter(FileSystemWriter):
    """Writes shards, and tells what the operating system said if they cannot be written."""

    def write_data(self, *given: Any) -> Any:
        """As torch's, which on a full disk raises ``unexpected pos 704 vs 598``."""
        try:
            return super().write_data(*given)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def write_shards(state: dict[str, Any], folder: Path, group: ProcessGroup | None) -> None:
    """Write this process's shards, and on the first process what they are.

    Raises:
        NotSaved: if the disk of a process does not take them.
        CheckpointException: if anything else went wrong, which starting over may mend.
    """
    try:
        save(state, storage_writer=ShardWriter(folder), process_group=group)
    except CheckpointException as error:
        # torch raises this on all processes when each of them has done what it can.
        refused = [rank for rank, (why, _) in error.failures.items() if _is_fatal(why)]
        if not refused:
            raise
        rank = min(refused)
        raise CheckpointSaveError(
            f"{folder}: the checkpoint cannot be written (process {rank}: "
            f"{error.failures[rank][0]}); when that is mended, the run goes on from the one before"
        ) from error


def run_on_all_ranks(group: ProcessGroup | None, what: str, do: Callable[[], None]) -> None:
    """Do this process's part and wait for the others.

    Args:
        group: of all processes; ``None`` if there is one.
        what: is done, for the error.
        do: the part.

    Raises:
        StorageUnavailableError: on all processes, if one of them first raised it.
        NotSaved: on all processes, if one of them first raised a ``UserError``, or one of a disk
            that does not take what is written.
        Failed: on all processes, with anything else, which starting over may mend.
    """
    error: Exception | None = None
    try:
        do()
    except Exception as met:  # noqa: BLE001 - told to the others before it is raised
        error = met
    mine = None
    if error is not None:
        known = isinstance(error, UserError)
        text = str(error) if known else f"{what}: {type(error).__name__}: {error}"
        away, final = isinstance(error, StorageUnavailableError), known or _is_fatal(error)
        mine = (
            StorageUnavailableError if away else CheckpointSaveError if final else RankFailedError,
            text,
        )
    told: list[Any] = [mine]
    if group is not None:
        told *= get_world_size(group)
        all_gather_object(told, mine, group=group)
    failed = [item for item in told if item is not None]
    if failed:
        kind, text = failed[0]
        raise kind(text) from error


def _is_fatal(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in FATAL_ERRNOS


def is_local_rank0() -> bool:
    """Whether this is the machine's first process."""
    return local_rank() == 0
