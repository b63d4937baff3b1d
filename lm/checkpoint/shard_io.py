"""Write and read the shards of a checkpoint on all processes; an error on one is raised on all.

Whoever can write to the folder of checkpoints can change what a run learns, but must not be able to
run code on its machines: ``torch.distributed.checkpoint`` unpickles whatever it finds, so that
everything is read here with the few classes that a checkpoint consists of.
"""

import errno
import io
import pickle
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.distributed import ProcessGroup, all_gather_object, get_world_size
from torch.distributed.checkpoint._traverse import set_element
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from infra.errors import UserError
from infra.store.retry import StorageUnavailableError
from infra.store.writable import DISK_ERRNOS

METADATA_FILE = ".metadata"
# What a pickled ``Metadata`` consists of; types of tensors are allowed as well.
METADATA_GLOBALS = {
    "torch.distributed.checkpoint.metadata": (
        "BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta",
        "TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING",
    ),
    "torch.distributed.checkpoint.filesystem": ("_StorageInfo",),
    "torch": ("Size",),
    "torch.serialization": ("_get_layout",),
    "pathlib": ("PosixPath",),
}  # fmt: skip
T = TypeVar("T")

FATAL_ERRNOS = DISK_ERRNOS | {errno.EACCES, errno.EPERM}  # a restart would fail again


class CheckpointSaveError(UserError):
    """A checkpoint that could not be written; raised on all processes."""


class RankFailedError(Exception):
    """An error of one process, raised on all; no ``UserError``, because a restart may succeed."""


class UnsafeCheckpointError(UserError):
    """A checkpoint that contains something else than tensors and plain values."""


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


class _MetadataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if not is_dtype and name not in METADATA_GLOBALS.get(module, ()):
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return super().find_class(module, name)


class ShardReader(FileSystemReader):
    """Reads shards of a checkpoint that may have been changed by others."""

    def __init__(self, folder: Path, files: Container[str]) -> None:
        """Read a folder; ``files`` are those of the checkpoint."""
        super().__init__(folder)
        self._folder, self._files = folder, files

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        """Read what the checkpoint contains. Raises ``UnsafeCheckpointError``."""
        path = self._folder / METADATA_FILE
        try:
            metadata: Metadata = _MetadataUnpickler(io.BytesIO(path.read_bytes())).load()
            names = {info.relative_path for info in (metadata.storage_data or {}).values()}
            outside = sorted(name for name in names if name not in self._files)
            if outside:
                raise pickle.UnpicklingError(f"it refers to the file {outside[0]}")
        except (pickle.UnpicklingError, AttributeError, EOFError, TypeError, ValueError) as error:
            raise UnsafeCheckpointError(
                f"{path} is not the metadata of a checkpoint: {error}; remove the checkpoint"
            ) from error
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


class _PlainValuesPlanner(DefaultLoadPlanner):
    """Loads values that are no tensors, such as a learning rate, without any class of their own."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        path = self.mappings[read_item.dest_index.fqn]
        set_element(self.original_state_dict, path, torch.load(value, weights_only=True))


def read_shards(state: dict[str, Any], reader: ShardReader, group: ProcessGroup | None) -> None:
    """Load a checkpoint into a state on all processes.

    Raises:
        UnsafeCheckpointError: if it contains something else than tensors and plain values.
        CheckpointException: for any other error; a restart may succeed.
    """
    try:
        load(state, storage_reader=reader, planner=_PlainValuesPlanner(), process_group=group)
    except CheckpointException as error:
        causes = [cause for cause, _ in error.failures.values()]
        unsafe = [cause for cause in causes if isinstance(cause, pickle.UnpicklingError)]
        if not unsafe:
            raise
        raise UnsafeCheckpointError(
            f"{reader.path}: a shard contains something else than tensors and plain values: "
            f"{str(unsafe[0]).splitlines()[0]}; remove the checkpoint"
        ) from error


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
    group: ProcessGroup | None, description: str, operation: Callable[[], T]
) -> list[T]:
    """Run this process's part of an operation; return the results of all processes, by rank.

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
    error, result = None, None
    try:
        result = operation()
    except Exception as caught:  # noqa: BLE001 - raised after the other processes know of it
        error = caught
    failure = None if error is None else _classify(error, description)
    outcomes: list[Any] = [(failure, result)]
    if group is not None:
        outcomes *= get_world_size(group)
        all_gather_object(outcomes, (failure, result), group=group)
    raised = [failure for failure, _ in outcomes if failure is not None]
    if raised:
        kind, text = raised[0]
        raise kind(text) from error
    return [result for _, result in outcomes]


def _classify(error: Exception, description: str) -> tuple[type[Exception], str]:
    """Return what all processes raise for an error of this one: type and message."""
    is_user_error = isinstance(error, UserError)
    text = str(error) if is_user_error else f"{description}: {type(error).__name__}: {error}"
    if isinstance(error, StorageUnavailableError):
        return StorageUnavailableError, text
    return (CheckpointSaveError if is_user_error or _is_fatal(error) else RankFailedError), text


def _is_fatal(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in FATAL_ERRNOS
