"""Asynchronous checkpointing: save training state in the background and restore it.

On the training's thread a save costs one copy to buffers in CPU memory, which all saves reuse.
(``torch.distributed.checkpoint.async_save`` does not copy tensors that are already on the CPU, and
so writes values of a later step, pytorch#144657.) A thread with its own process group writes the
shards and uploads them to a remote store; when every process has done so, the first one writes the
marker.
"""

import logging
import shutil
import threading
import warnings
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
from torch.distributed import (
    ProcessGroup,
    ReduceOp,
    all_reduce,
    broadcast_object_list,
    is_initialized,
    new_group,
)
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.distributed_c10d import _set_pg_timeout

from infra.errors import UserError
from infra.store.retry import retry_if_remote
from infra.store.storage import Storage
from lm.checkpoint import marker
from lm.checkpoint.logs import restore_logs, save_logs
from lm.checkpoint.marker import Checkpoint, CheckpointStore, FileDigest
from lm.checkpoint.shard_io import (
    METADATA_FILE,
    CheckpointSaveError,
    RankFailedError,
    ShardReader,
    read_shards,
    run_on_all_ranks,
    write_shards,
)
from lm.distributed.ranks import local_rank, rank_and_world_size
from lm.distributed.rng_state import get_rng_state, set_rng_state

log = logging.getLogger(__name__)

T = TypeVar("T")
RNG_STATE = "rng_state"
# A save waits at least so long for the previous one, even if a step is shorter: writing a small state
# takes longer than its step, and a short run would otherwise have no checkpoints.
MIN_WAIT_S = 0.25
# How long processes wait for each other. One may need hours to upload or download its shards, and one
# that dies closes gloo's connections, which the others notice at once. Only a machine that disappears
# without closing them is waited for as long as this.
COLLECTIVE_TIMEOUT = timedelta(days=1)
CLOSE_TIMEOUT_S = 30.0  # for the checkpoint that is being written when a run fails


class Stateful(Protocol):
    """The state to save: all tensors and numbers that a run carries from step to step."""

    def state_dict(self) -> dict[str, Any]:
        """Return references to them, by name."""

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Restore them."""


class CheckpointManager:
    """Saves and restores state; all processes call every method at the same step.

    Attributes:
        latest_step: steps done at the newest checkpoint that all processes know to be complete.
    """

    def __init__(self, store: CheckpointStore, compatibility_key: Mapping[str, Any]) -> None:
        """Make two process groups: one for the writing thread, one for decisions of all processes.

        ``compatibility_key`` is what a checkpoint must agree on to be restored, by name.
        """
        self._store, self._compatibility_key = store, compatibility_key
        self._rank, self._world_size = rank_and_world_size()
        self._thread: threading.Thread | None = None
        self._pending_step = 0
        self._error: BaseException | None = None
        self.latest_step: int | None = None
        pinned = torch.cuda.is_available()
        self._stager = DefaultStager(
            StagingOptions(
                use_pinned_memory=pinned,
                use_shared_memory=False,
                use_async_staging=False,
                use_non_blocking_copy=pinned,
            )
        )
        self._write_group: ProcessGroup | None = None
        self._sync_group: ProcessGroup | None = None
        if is_initialized():
            self._write_group, self._sync_group = (
                new_group(backend="gloo"),
                new_group(backend="gloo"),
            )
            # Set afterwards, so that connecting has the usual timeout: no connection can break yet.
            for group in (self._write_group, self._sync_group):
                _set_pg_timeout(COLLECTIVE_TIMEOUT, group)
        else:
            # Without a process group torch warns that there is only one process, which is intended.
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")

    def restore(self, state: Stateful) -> Checkpoint | None:
        """Load the newest complete checkpoint into the state.

        Random states are restored if as many processes wrote them, and the log if this machine does
        not have it. A checkpoint with a file that is not as it was saved is removed, with a warning.

        Returns:
            The checkpoint; ``None`` if there is none.

        Raises:
            CheckpointMismatchError: if its weights depend on something else; the message says what.
            UnsafeCheckpointError: if it contains something else than tensors and plain values.
            StorageUnavailableError: if the store did not answer in time.
        """
        checkpoints: list[Checkpoint] = self._broadcast_from_rank0(self._find_checkpoints)
        checkpoint = next((item for item in reversed(checkpoints) if self._load(item, state)), None)
        if checkpoint is not None:
            self.latest_step = checkpoint.step
        # The first copy allocates the buffers page by page, which takes several times as long.
        self._copy(state)
        return checkpoint

    def save(
        self,
        step: int,
        state: Stateful,
        metadata: Mapping[str, Any],
        step_seconds: float = 0.0,
        *,
        wait: bool = False,
    ) -> bool:
        """Copy the state and start to write it.

        While the previous checkpoint is still being written, this waits as long as a step takes and
        then skips the save, unless ``wait`` is set or ``keep_interval`` keeps it.

        ``step`` is the number of steps done, ``metadata`` JSON values for the loop that restores it.

        Returns:
            Whether it was started.

        Raises:
            CheckpointSaveError: if the previous checkpoint could not be written.
        """
        wait = wait or self._store.is_permanent(step)
        is_idle = self._wait_previous(None if wait else max(step_seconds, MIN_WAIT_S))
        if is_idle:
            copied = self._copy(state)
            self._pending_step = step
            self._thread = threading.Thread(
                target=self._write, args=(step, copied, dict(metadata)), daemon=True
            )
            self._thread.start()
        elif self._rank == 0:
            log.warning("no checkpoint at step %d: the previous one is still being written", step)
        return is_idle

    def wait(self) -> int | None:
        """Wait for the checkpoint that is being written; return ``latest_step``.

        Raises:
            CheckpointSaveError: if it could not be written.
        """
        self._wait_previous(None)
        return self.latest_step

    def close(self) -> None:
        """Wait up to ``CLOSE_TIMEOUT_S`` for the checkpoint that is being written."""
        if self._thread is not None:
            self._thread.join(CLOSE_TIMEOUT_S)

    # -- on the training's thread ------------------------------------------------------------------

    def _wait_previous(self, timeout_s: float | None) -> bool:
        """Return whether no process is still writing after so many seconds; the same on all of them."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        busy = self._thread is not None and self._thread.is_alive()
        flags = torch.tensor([busy, self._error is not None], dtype=torch.int32)
        if self._sync_group is not None:
            all_reduce(flags, ReduceOp.MAX, group=self._sync_group)
        busy, failed = flags.tolist()
        if failed:
            if self._thread is not None:
                self._thread.join()  # it fails as it did elsewhere
            raise self._error or CheckpointSaveError(
                "a checkpoint could not be written by another process"
            )
        if not busy and self._thread is not None:
            self.latest_step, self._thread = self._pending_step, None
        return not busy

    def _find_checkpoints(self) -> list[Checkpoint]:
        root = self._store.storage
        read = partial(marker.list_complete, root)
        checkpoints = self._retry(root, f"reading {root.url}", read)
        for checkpoint in checkpoints:
            checkpoint.require_compatible(self._compatibility_key)
        return checkpoints

    def _retry(self, store: Storage, description: str, operation: Callable[[], T]) -> T:
        return retry_if_remote(store, description, operation, self._store.timeout_s)

    def _broadcast_from_rank0(self, find: Callable[[], Any]) -> Any:
        """Return on all processes what the first one finds, or raise its ``UserError``."""
        box: list[Any] = [None]
        if self._rank == 0:
            try:
                box = [find()]
            except UserError as error:
                box = [error]
        if self._sync_group is not None:
            broadcast_object_list(box, group=self._sync_group)
        if isinstance(box[0], UserError):
            raise box[0]
        return box[0]

    def _load(self, source: Checkpoint, state: Stateful) -> bool:
        """Load a checkpoint; return ``False`` if it is damaged."""
        folder = source.storage.local_path() or self._store.staging / "resumed"
        description = f"reading {source.storage.url} into {folder}"
        fetch = partial(self._fetch, source, folder)
        damaged = sorted({*chain(*run_on_all_ranks(self._sync_group, description, fetch))})
        if damaged:
            if self._rank == 0:
                names = ", ".join(damaged)
                log.warning("removing the checkpoint %s: damaged %s", source.storage.url, names)
                remove = partial(marker.remove_checkpoint, source.storage)
                self._retry(source.storage, f"clearing {source.storage.url}", remove)
            return False
        loaded = self._full_state(state)
        reader = ShardReader(folder, source.files)
        saved = reader.read_metadata().state_dict_metadata
        lacks_gpu = torch.cuda.is_available() and f"{RNG_STATE}.{self._rank}.cuda" not in saved
        if source.world_size != self._world_size or lacks_gpu:
            del loaded[RNG_STATE]
        read_shards(loaded, reader, self._sync_group)
        if RNG_STATE in loaded:
            set_rng_state(loaded.pop(RNG_STATE)[str(self._rank)])
        state.load_state_dict(loaded)

        def copy_logs() -> None:
            if self._rank == 0:
                restore_logs(folder, self._store.folder, source.step)

        run_on_all_ranks(self._sync_group, f"writing {self._store.folder}", copy_logs)
        return True

    def _full_state(self, state: Stateful) -> dict[str, Any]:
        return {**state.state_dict(), RNG_STATE: {str(self._rank): get_rng_state()}}

    def _copy(self, state: Stateful) -> dict[str, Any]:
        return cast("dict[str, Any]", self._stager.stage(self._full_state(state)))

    def _fetch(self, source: Checkpoint, folder: Path) -> list[str]:
        """Download a remote checkpoint, once per node; return its damaged files."""
        if source.storage.is_local:  # on a folder that all nodes share
            return source.find_damaged(folder) if self._rank == 0 else []
        if local_rank() != 0:
            return []
        shutil.rmtree(folder, ignore_errors=True)
        for name in source.files:
            download = partial(source.storage.download, name, folder / name)
            self._retry(source.storage, f"reading {source.storage.url}/{name}", download)
        return source.find_damaged(folder)

    # -- on the writing thread ---------------------------------------------------------------------

    def _write(self, step: int, state: dict[str, Any], metadata: dict[str, Any]) -> None:
        try:
            self._write_all(step, state, metadata)
        except BaseException as error:  # noqa: BLE001 - raised by the next save, on the training's thread
            self._error = error

    def _write_all(self, step: int, state: dict[str, Any], metadata: dict[str, Any]) -> None:
        store, group = self._store, self._write_group
        target = store.storage.subdir(marker.checkpoint_name(step))
        local_folder = target.local_path()
        folder = local_folder or store.staging / marker.checkpoint_name(step)
        existing: list[Checkpoint] = []

        def prepare() -> None:
            if self._rank == 0:
                clear = partial(marker.remove_incomplete, store.storage)
                existing.extend(self._retry(store.storage, f"clearing {store.storage.url}", clear))
            if local_rank() == 0:
                if local_folder is None:
                    shutil.rmtree(store.staging, ignore_errors=True)
                folder.mkdir(parents=True, exist_ok=True)

        def upload() -> dict[str, FileDigest]:
            paths = [*folder.glob(f"__{self._rank}_*")]
            if self._rank == 0:
                paths += [folder / METADATA_FILE, *save_logs(store.folder, folder)]
            for path in paths if local_folder is None else ():
                put = partial(target.upload, path, path.name)
                self._retry(target, f"writing {target.url}/{path.name}", put)
            return {path.name: FileDigest.from_path(path) for path in paths}

        def complete() -> None:
            if self._rank == 0:
                key, files = self._compatibility_key, dict(chain(*(d.items() for d in digests)))
                made = Checkpoint(target, step, self._world_size, key, metadata, files)
                mark = partial(marker.write_marker, made)
                self._retry(target, f"marking {target.url}", mark)
                for old in store.expired(existing):
                    clear = partial(marker.remove_checkpoint, old.storage)
                    self._retry(old.storage, f"clearing {old.storage.url}", clear)
            if local_rank() == 0 and local_folder is None:
                shutil.rmtree(folder, ignore_errors=True)

        description = f"writing {target.url}"
        try:
            run_on_all_ranks(group, description, prepare)
            write_shards(state, folder, group)
            digests = run_on_all_ranks(group, description, upload)
            run_on_all_ranks(group, description, complete)
        except (UserError, RankFailedError):
            # On all processes. On a full disk this frees the space, so that the run can end cleanly.
            if local_rank() == 0 and not (folder / marker.MARKER).exists():
                shutil.rmtree(folder, ignore_errors=True)
            raise
