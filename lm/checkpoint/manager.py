"""Keeps a run: saves its state while it goes on, and finds it again.

On the training's own thread a save costs one copy to buffers in CPU memory that are used again for
every save. (``torch.distributed.checkpoint.async_save`` does not copy tensors that are on the CPU
already and writes what the next step has made of them, pytorch#144657.) A thread with a process
group of its own writes the shards, sends them to the store if that is elsewhere, and when every
process has done so the first one writes the marker.
"""

import logging
import shutil
import threading
import warnings
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
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
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.distributed_c10d import _set_pg_timeout

from infra.errors import UserError
from infra.store.retry import retry_if_remote
from infra.store.storage import Storage
from lm.checkpoint import marker
from lm.checkpoint.logs import restore_logs, save_logs
from lm.checkpoint.marker import Checkpoint
from lm.checkpoint.retention import CheckpointStore
from lm.checkpoint.shard_io import (
    CheckpointSaveError,
    RankFailedError,
    is_local_rank0,
    run_on_all_ranks,
    write_shards,
)
from lm.distributed.rng_state import get_rng_state, set_rng_state
from lm.metrics.meter import rank_and_world_size

log = logging.getLogger(__name__)

T = TypeVar("T")
RNG_STATE = "rng_state"
# Seconds that a save waits for the one before it even where a step takes less: writing a small
# state takes longer than its step, and a short run would be left without checkpoints.
MIN_WAIT_S = 0.25
# How long processes wait for each other. One may rightly take hours to send or fetch its shards, and
# nobody can tell how many; one that dies breaks gloo's connections, which the others notice at once.
# Only a machine that vanishes without a word is waited for as long as this.
COLLECTIVE_TIMEOUT = timedelta(days=1)
CLOSE_TIMEOUT_S = 30.0  # seconds that a run that has failed leaves to what it was saving


class Stateful(Protocol):
    """What is saved: all tensors and numbers that a run carries from step to step."""

    def state_dict(self) -> dict[str, Any]:
        """References to them, by name."""

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Take them back."""


class CheckpointManager:
    """Saves and resumes; all processes call every method at the same step.

    Attributes:
        latest_step: steps done at the newest checkpoint that all processes know to be complete.
    """

    def __init__(self, store: CheckpointStore, compatibility_key: Mapping[str, Any]) -> None:
        """Make the process groups that saving needs: one for its thread, one to agree on.

        Args:
            store: where to.
            compatibility_key: what a checkpoint must agree on to be resumed from, by name.
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
            # Not as they are made: before there is a connection, none can break.
            for group in (self._write_group, self._sync_group):
                _set_pg_timeout(COLLECTIVE_TIMEOUT, group)
        else:
            # Without a process group torch warns that there is but one process: that is meant.
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")

    def restore(self, state: Stateful) -> Checkpoint | None:
        """Load the newest complete checkpoint into the state.

        Random states come back too if as many processes wrote them, and the log if this machine
        does not have it.

        Returns:
            What was loaded; ``None`` if there was nothing to load.

        Raises:
            OtherRun: if the checkpoint differs in what its weights depend on; names what.
            StorageUnavailableError: if the store did not answer in time.
        """
        found: Checkpoint | None = self._broadcast_from_rank0(self._find_checkpoint)
        if found is not None:
            self._load(found, state)
            self.latest_step = found.step
        # The first copy has to get its memory page by page and would cost several times the others.
        self._copy(state)
        return found

    def save(
        self,
        step: int,
        state: Stateful,
        metadata: Mapping[str, Any],
        step_seconds: float = 0.0,
        *,
        wait: bool = False,
    ) -> bool:
        """Copy the state and begin to write it.

        If the save before this one is still being written, this one waits as long as a step takes
        and is then left out, unless it must be made or ``keep_interval`` asks for it.

        Args:
            step: steps done.
            state: what to save.
            metadata: JSON values for whoever resumes.
            step_seconds: that a step takes.
            wait: for the save before this one, however long it takes.

        Returns:
            Whether it was begun.

        Raises:
            NotSaved: if the save before this one failed.
        """
        wait = wait or self._store.is_permanent(step)
        free = self._wait_previous(None if wait else max(step_seconds, MIN_WAIT_S))
        if free:
            copied = self._copy(state)
            self._pending_step = step
            self._thread = threading.Thread(
                target=self._write, args=(step, copied, dict(metadata)), daemon=True
            )
            self._thread.start()
        elif self._rank == 0:
            log.warning("no checkpoint at step %d: the one before is still being written", step)
        return free

    def wait(self) -> None:
        """Wait for what is being written. Raises ``NotSaved`` if it could not be."""
        self._wait_previous(None)

    def close(self) -> None:
        """Leave some time to what is being written, whatever becomes of it."""
        if self._thread is not None:
            self._thread.join(CLOSE_TIMEOUT_S)

    # -- on the training's thread ------------------------------------------------------------------

    def _wait_previous(self, timeout_s: float | None) -> bool:
        """Whether no process is still writing after so many seconds; the same on all of them."""
        if self._thread is not None:
            self._thread.join(timeout_s)
        busy = self._thread is not None and self._thread.is_alive()
        flags = torch.tensor([busy, self._error is not None], dtype=torch.int32)
        if self._sync_group is not None:
            all_reduce(flags, ReduceOp.MAX, group=self._sync_group)
        busy, failed = flags.tolist()
        if failed:
            if self._thread is not None:
                self._thread.join()  # it ends as it did elsewhere
            raise self._error or CheckpointSaveError(
                "a checkpoint could not be written by another process"
            )
        if not busy and self._thread is not None:
            self.latest_step, self._thread = self._pending_step, None
        return not busy

    def _find_checkpoint(self) -> Checkpoint | None:
        shelf = self._store
        found = self._list_complete(shelf.storage)
        if found:
            found[-1].require_compatible(self._compatibility_key)
            return found[-1]
        if shelf.resume_point is None:
            return None
        for begin in self._list_complete(Storage(shelf.resume_point.url)):
            if begin.step == shelf.resume_point.step:
                begin.require_compatible(shelf.resume_point.compatibility_key)
                return begin
        raise CheckpointSaveError(
            f"{shelf.resume_point.url}: the checkpoint of step {shelf.resume_point.step}, where this "
            f"branch begins, is not there any more"
        )

    def _list_complete(self, root: Storage) -> list[Checkpoint]:
        return self._retry(root, f"reading {root.url}", lambda: marker.list_complete(root))

    def _retry(self, store: Storage, what: str, do: Callable[[], T]) -> T:
        return retry_if_remote(store, what, do, self._store.timeout_s)

    def _broadcast_from_rank0(self, find: Callable[[], Any]) -> Any:
        """What the first process finds, on all of them; or what it raises."""
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

    def _load(self, source: Checkpoint, state: Stateful) -> None:
        folder = source.storage.local_path()
        if folder is None:
            folder = self._store.staging / "resumed"
            what = f"reading {source.storage.url} into {folder}"
            run_on_all_ranks(self._sync_group, what, lambda: self._download(source, folder))
        loaded = self._full_state(state)
        reader = FileSystemReader(folder)
        kept = reader.read_metadata().state_dict_metadata
        gpu = torch.cuda.is_available()
        if source.world_size != self._world_size or (
            gpu and f"{RNG_STATE}.{self._rank}.cuda" not in kept
        ):
            del loaded[RNG_STATE]
        load(loaded, storage_reader=reader, process_group=self._sync_group)
        if RNG_STATE in loaded:
            set_rng_state(loaded.pop(RNG_STATE)[str(self._rank)])
        state.load_state_dict(loaded)

        def take_log() -> None:
            if self._rank == 0:
                restore_logs(folder, self._store.folder, source.step)

        run_on_all_ranks(self._sync_group, f"writing {self._store.folder}", take_log)

    def _full_state(self, state: Stateful) -> dict[str, Any]:
        return {**state.state_dict(), RNG_STATE: {str(self._rank): get_rng_state()}}

    def _copy(self, state: Stateful) -> dict[str, Any]:
        return cast("dict[str, Any]", self._stager.stage(self._full_state(state)))

    def _download(self, source: Checkpoint, folder: Path) -> None:
        if not is_local_rank0():
            return
        shutil.rmtree(folder, ignore_errors=True)
        for name in source.files:
            get = partial(source.storage.download, name, folder / name)
            self._retry(source.storage, f"reading {source.storage.url}/{name}", get)

    # -- on the writing thread ---------------------------------------------------------------------

    def _write(self, step: int, state: dict[str, Any], metadata: dict[str, Any]) -> None:
        try:
            self._write_all(step, state, metadata)
        except BaseException as error:  # noqa: BLE001 - raised by the next save, on the other thread
            self._error = error

    def _write_all(self, step: int, state: dict[str, Any], metadata: dict[str, Any]) -> None:
        shelf, group = self._store, self._write_group
        target = shelf.storage.subdir(marker.checkpoint_name(step))
        here = target.local_path()
        folder = here or shelf.staging / marker.checkpoint_name(step)
        before: list[Checkpoint] = []

        def prepare() -> None:
            if self._rank == 0:
                clear = partial(marker.remove_incomplete, shelf.storage)
                before.extend(self._retry(shelf.storage, f"clearing {shelf.storage.url}", clear))
            if is_local_rank0():
                if here is None:
                    shutil.rmtree(shelf.staging, ignore_errors=True)
                folder.mkdir(parents=True, exist_ok=True)

        def send() -> None:
            mine = [*folder.glob(f"__{self._rank}_*")]
            if self._rank == 0:
                mine += [folder / ".metadata", *save_logs(shelf.folder, folder)]
            for path in mine if here is None else ():
                put = partial(target.upload, path, path.name)
                self._retry(target, f"writing {target.url}/{path.name}", put)

        def declare() -> None:
            if self._rank == 0:
                value: dict[str, Any] = {"step": step, "world_size": self._world_size}
                value |= {"compatibility_key": dict(self._compatibility_key), "metadata": metadata}
                mark = partial(marker.write_marker, target, value)
                self._retry(target, f"marking {target.url}", mark)
                for old in shelf.expired(before):
                    clear = partial(marker.remove_checkpoint, old.storage)
                    self._retry(old.storage, f"clearing {old.storage.url}", clear)
            if is_local_rank0() and here is None:
                shutil.rmtree(folder, ignore_errors=True)

        what = f"writing {target.url}"
        try:
            run_on_all_ranks(group, what, prepare)
            write_shards(state, folder, group)
            run_on_all_ranks(group, what, send)
            run_on_all_ranks(group, what, declare)
        except (UserError, RankFailedError):
            # On all processes alike. A full disk needs the room to tell of it.
            if is_local_rank0() and not (folder / marker.MARKER).exists():
                shutil.rmtree(folder, ignore_errors=True)
            raise
