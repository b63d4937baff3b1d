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
from infra.store.retry import ask
from infra.store.storage import Storage
from lm.checkpoint import marker
from lm.checkpoint.logs import pack, unpack
from lm.checkpoint.marker import Checkpoint
from lm.checkpoint.retention import Shelf
from lm.checkpoint.shard_io import Failed, NotSaved, first_here, together, write
from lm.distributed.rng_state import random_states, set_random_states
from lm.metrics.meter import place

log = logging.getLogger(__name__)

T = TypeVar("T")
RANDOM = "random"
# Seconds that a save waits for the one before it even where a step takes less: writing a small
# state takes longer than its step, and a short run would be left without checkpoints.
LEAST_WAIT = 0.25
# How long processes wait for each other. One may rightly take hours to send or fetch its shards, and
# nobody can tell how many; one that dies breaks gloo's connections, which the others notice at once.
# Only a machine that vanishes without a word is waited for as long as this.
TOGETHER = timedelta(days=1)
LAST = 30.0  # seconds that a run that has failed leaves to what it was saving


class Stateful(Protocol):
    """What is saved: all tensors and numbers that a run carries from step to step."""

    def state_dict(self) -> dict[str, Any]:
        """References to them, by name."""

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Take them back."""


class Keeper:
    """Saves and resumes; all processes call every method at the same step.

    Attributes:
        newest: steps done at the newest checkpoint that all processes know to be complete.
    """

    def __init__(self, shelf: Shelf, identity: Mapping[str, Any]) -> None:
        """Make the process groups that saving needs: one for its thread, one to agree on.

        Args:
            shelf: where to.
            identity: what a checkpoint must agree on to be resumed from, by name.
        """
        self._shelf, self._identity = shelf, identity
        self._rank, self._world = place()
        self._thread: threading.Thread | None = None
        self._step = 0
        self._error: BaseException | None = None
        self.newest: int | None = None
        pinned = torch.cuda.is_available()
        self._stager = DefaultStager(
            StagingOptions(
                use_pinned_memory=pinned,
                use_shared_memory=False,
                use_async_staging=False,
                use_non_blocking_copy=pinned,
            )
        )
        self._writing: ProcessGroup | None = None
        self._agreeing: ProcessGroup | None = None
        if is_initialized():
            self._writing, self._agreeing = new_group(backend="gloo"), new_group(backend="gloo")
            # Not as they are made: before there is a connection, none can break.
            for group in (self._writing, self._agreeing):
                _set_pg_timeout(TOGETHER, group)
        else:
            # Without a process group torch warns that there is but one process: that is meant.
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")

    def resume(self, state: Stateful) -> Checkpoint | None:
        """Load the newest complete checkpoint into the state.

        Random states come back too if as many processes wrote them, and the log if this machine
        does not have it.

        Returns:
            What was loaded; ``None`` if there was nothing to load.

        Raises:
            OtherRun: if the checkpoint differs in what its weights depend on; names what.
            StoreAway: if the store did not answer in time.
        """
        found: Checkpoint | None = self._from_first(self._find)
        if found is not None:
            self._load(found, state)
            self.newest = found.step
        # The first copy has to get its memory page by page and would cost several times the others.
        self._copy(state)
        return found

    def save(
        self,
        step: int,
        state: Stateful,
        notes: Mapping[str, Any],
        step_seconds: float = 0.0,
        *,
        wait: bool = False,
    ) -> bool:
        """Copy the state and begin to write it.

        If the save before this one is still being written, this one waits as long as a step takes
        and is then left out, unless it must be made or ``keep_every`` asks for it.

        Args:
            step: steps done.
            state: what to save.
            notes: JSON values for whoever resumes.
            step_seconds: that a step takes.
            wait: for the save before this one, however long it takes.

        Returns:
            Whether it was begun.

        Raises:
            NotSaved: if the save before this one failed.
        """
        wait = wait or self._shelf.must_keep(step)
        free = self._free(None if wait else max(step_seconds, LEAST_WAIT))
        if free:
            copied = self._copy(state)
            self._step = step
            self._thread = threading.Thread(
                target=self._write, args=(step, copied, dict(notes)), daemon=True
            )
            self._thread.start()
        elif self._rank == 0:
            log.warning("no checkpoint at step %d: the one before is still being written", step)
        return free

    def finish(self) -> None:
        """Wait for what is being written. Raises ``NotSaved`` if it could not be."""
        self._free(None)

    def close(self) -> None:
        """Leave some time to what is being written, whatever becomes of it."""
        if self._thread is not None:
            self._thread.join(LAST)

    # -- on the training's thread ------------------------------------------------------------------

    def _free(self, patience: float | None) -> bool:
        """Whether no process is still writing after so many seconds; the same on all of them."""
        if self._thread is not None:
            self._thread.join(patience)
        busy = self._thread is not None and self._thread.is_alive()
        flags = torch.tensor([busy, self._error is not None], dtype=torch.int32)
        if self._agreeing is not None:
            all_reduce(flags, ReduceOp.MAX, group=self._agreeing)
        busy, failed = flags.tolist()
        if failed:
            if self._thread is not None:
                self._thread.join()  # it ends as it did elsewhere
            raise self._error or NotSaved("a checkpoint could not be written by another process")
        if not busy and self._thread is not None:
            self.newest, self._thread = self._step, None
        return not busy

    def _find(self) -> Checkpoint | None:
        shelf = self._shelf
        found = self._complete(shelf.store)
        if found:
            found[-1].require(self._identity)
            return found[-1]
        if shelf.start is None:
            return None
        for begin in self._complete(Storage(shelf.start.url)):
            if begin.step == shelf.start.step:
                begin.require(shelf.start.identity)
                return begin
        raise NotSaved(
            f"{shelf.start.url}: the checkpoint of step {shelf.start.step}, where this "
            f"branch begins, is not there any more"
        )

    def _complete(self, root: Storage) -> list[Checkpoint]:
        return self._ask(root, f"reading {root.url}", lambda: marker.complete(root))

    def _ask(self, store: Storage, what: str, do: Callable[[], T]) -> T:
        return ask(store, what, do, self._shelf.patience)

    def _from_first(self, find: Callable[[], Any]) -> Any:
        """What the first process finds, on all of them; or what it raises."""
        box: list[Any] = [None]
        if self._rank == 0:
            try:
                box = [find()]
            except UserError as error:
                box = [error]
        if self._agreeing is not None:
            broadcast_object_list(box, group=self._agreeing)
        if isinstance(box[0], UserError):
            raise box[0]
        return box[0]

    def _load(self, found: Checkpoint, state: Stateful) -> None:
        folder = found.store.local()
        if folder is None:
            folder = self._shelf.staging / "resumed"
            what = f"reading {found.store.url} into {folder}"
            together(self._agreeing, what, lambda: self._fetch(found, folder))
        loaded = self._whole(state)
        reader = FileSystemReader(folder)
        kept = reader.read_metadata().state_dict_metadata
        gpu = torch.cuda.is_available()
        if found.world != self._world or (gpu and f"{RANDOM}.{self._rank}.cuda" not in kept):
            del loaded[RANDOM]
        load(loaded, storage_reader=reader, process_group=self._agreeing)
        if RANDOM in loaded:
            set_random_states(loaded.pop(RANDOM)[str(self._rank)])
        state.load_state_dict(loaded)

        def take_log() -> None:
            if self._rank == 0:
                unpack(folder, self._shelf.folder, found.step)

        together(self._agreeing, f"writing {self._shelf.folder}", take_log)

    def _whole(self, state: Stateful) -> dict[str, Any]:
        return {**state.state_dict(), RANDOM: {str(self._rank): random_states()}}

    def _copy(self, state: Stateful) -> dict[str, Any]:
        return cast("dict[str, Any]", self._stager.stage(self._whole(state)))

    def _fetch(self, found: Checkpoint, folder: Path) -> None:
        if not first_here():
            return
        shutil.rmtree(folder, ignore_errors=True)
        for name in found.files:
            get = partial(found.store.download, name, folder / name)
            self._ask(found.store, f"reading {found.store.url}/{name}", get)

    # -- on the writing thread ---------------------------------------------------------------------

    def _write(self, step: int, copied: dict[str, Any], notes: dict[str, Any]) -> None:
        try:
            self._write_all(step, copied, notes)
        except BaseException as error:  # noqa: BLE001 - raised by the next save, on the other thread
            self._error = error

    def _write_all(self, step: int, copied: dict[str, Any], notes: dict[str, Any]) -> None:
        shelf, group = self._shelf, self._writing
        target = shelf.store.at(marker.name_of(step))
        here = target.local()
        folder = here or shelf.staging / marker.name_of(step)
        before: list[Checkpoint] = []

        def prepare() -> None:
            if self._rank == 0:
                clear = partial(marker.tidy, shelf.store)
                before.extend(self._ask(shelf.store, f"clearing {shelf.store.url}", clear))
            if first_here():
                if here is None:
                    shutil.rmtree(shelf.staging, ignore_errors=True)
                folder.mkdir(parents=True, exist_ok=True)

        def send() -> None:
            mine = [*folder.glob(f"__{self._rank}_*")]
            if self._rank == 0:
                mine += [folder / ".metadata", *pack(shelf.folder, folder)]
            for path in mine if here is None else ():
                put = partial(target.upload, path, path.name)
                self._ask(target, f"writing {target.url}/{path.name}", put)

        def declare() -> None:
            if self._rank == 0:
                value: dict[str, Any] = {"step": step, "world": self._world}
                value |= {"identity": dict(self._identity), "notes": notes}
                mark = partial(marker.mark, target, value)
                self._ask(target, f"marking {target.url}", mark)
                for old in shelf.superseded(before):
                    clear = partial(marker.remove, old.store)
                    self._ask(old.store, f"clearing {old.store.url}", clear)
            if first_here() and here is None:
                shutil.rmtree(folder, ignore_errors=True)

        what = f"writing {target.url}"
        try:
            together(group, what, prepare)
            write(copied, folder, group)
            together(group, what, send)
            together(group, what, declare)
        except (UserError, Failed):
            # On all processes alike. A full disk needs the room to tell of it.
            if first_here() and not (folder / marker.MARKER).exists():
                shutil.rmtree(folder, ignore_errors=True)
            raise
