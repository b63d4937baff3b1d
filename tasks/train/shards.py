"""A checkpoint's files on this machine, written by all processes; an error of one is one of all."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.distributed import ProcessGroup, all_gather_object, get_world_size
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import save

from infra.away import StoreAway
from infra.errors import UserError
from tasks.train.meter import local_rank


class NotSaved(UserError):
    """A checkpoint that could not be written, on all processes alike."""


class Writer(FileSystemWriter):
    """Writes shards, and tells what the operating system said if they cannot be written."""

    def write_data(self, *given: Any) -> Any:
        """As torch's, which on a full disk raises ``unexpected pos 704 vs 598``."""
        try:
            return super().write_data(*given)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def write(state: dict[str, Any], folder: Path, group: ProcessGroup | None) -> None:
    """Write this process's shards, and on the first process what they are.

    Raises:
        NotSaved: if a process could not; the folder is gone then, and its room is free again.
    """
    try:
        save(state, storage_writer=Writer(folder), process_group=group)
    except CheckpointException as error:
        # torch raises this on all processes when each of them has done what it can.
        if first_here():
            shutil.rmtree(folder, ignore_errors=True)
        rank = min(error.failures)
        raise NotSaved(
            f"{folder}: the checkpoint cannot be written (process {rank}: "
            f"{error.failures[rank][0]}); when that is mended, the run goes on from the one before"
        ) from error


def together(group: ProcessGroup | None, what: str, do: Callable[[], None]) -> None:
    """Do this process's part and wait for the others.

    Args:
        group: of all processes; ``None`` if there is one.
        what: is done, for the error.
        do: the part.

    Raises:
        StoreAway: on all processes, if one of them first raised it.
        NotSaved: on all processes, with what one of them first raised.
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
        mine = isinstance(error, StoreAway), text
    told: list[Any] = [mine]
    if group is not None:
        told *= get_world_size(group)
        all_gather_object(told, mine, group=group)
    failed = [item for item in told if item is not None]
    if failed:
        away, text = failed[0]
        raise (StoreAway if away else NotSaved)(text) from error


def first_here() -> bool:
    """Whether this is the machine's first process."""
    return local_rank() == 0
