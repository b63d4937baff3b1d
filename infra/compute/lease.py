"""Leases: which folders of the store a run uses, so that ``gristmill gc`` does not delete them.

A run writes the folders that it is going to read or write into its lease before it looks at them.
Before ``gc`` deletes anything it writes the folders that it is going to delete, and then reads all
leases. So at least one of the two sees the other, on any store whose reads follow its writes: ``gc``
leaves the folder alone, or the run waits until ``gc`` has finished and makes what is missing.
"""

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from infra.compute.processes import boot_id
from infra.errors import UserError
from infra.store.storage import Storage

LEASE_SUFFIX = ".lease"
DELETION = "runs/deletion.lease"  # what a running ``gc`` is going to delete
RENEW_INTERVAL_S = 60.0
TIMEOUT_S = 900.0  # a lease that was not renewed for so long belongs to a process that is dead
# Another run may train in its place then. Not when gc may delete what it uses: two trainings of one model
# end with the same bytes, but what is deleted is lost.
TRAINING_TIMEOUT_S = 180.0
POLL_INTERVAL_S = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lease:
    """A lease as written.

    Attributes:
        recipe: the recipe's name; empty for ``gc``.
        run: the run's id.
        host: where it runs; ``pid`` and ``boot`` (``boot_id``) identify the process there.
        renewed: seconds since the epoch.
        ended: whether the run has ended, but left work that its next run can use.
        folders: below the storage root.
        trains: whether the run trains models.
    """

    recipe: str
    run: str
    host: str
    pid: int
    boot: str
    renewed: float
    ended: bool
    folders: Sequence[str]
    trains: bool = False

    @property
    def is_live(self) -> bool:
        """Whether its process may still be running."""
        if self.ended or time.time() - self.renewed > TIMEOUT_S:
            return False
        if self.host != socket.gethostname() or self.boot != boot_id():
            return True  # on another host: only the time can show that it is dead
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


class RunLease:
    """The lease of a run of this process, renewed by a thread until it is closed."""

    def __init__(self, storage: Storage, recipe: str, run: str, *, trains: bool = False) -> None:
        """Write the lease of a recipe's run at the root of the store."""
        self._storage, self._recipe, self._run, self._trains = storage, recipe, run, trains
        self._name = f"runs/{recipe}/leases/{run}{LEASE_SUFFIX}"
        self._folders: set[str] = set()
        self._lock = threading.Lock()
        self._write()
        self._renewal = _Renewal(self._renew)

    def hold(self, folders: Sequence[str]) -> None:
        """Keep folders from being deleted until the run ends; wait while ``gc`` is deleting them."""
        with self._lock:
            new = set(folders) - self._folders
            if not new:
                return
            self._folders |= new
            self._write()
        while (deletion := read_lease(self._storage, DELETION)) is not None:
            if not deletion.is_live or not new & set(deletion.folders):
                return
            time.sleep(POLL_INTERVAL_S)

    def close(self, *, completed: bool) -> None:
        """Stop renewing, and remove the lease unless the run left work for its next run."""
        self._renewal.stop()
        try:
            if completed:
                self._storage.remove(self._name)
            else:
                self._write(ended=True)
        except Exception as error:  # noqa: BLE001 - clients of object stores have errors of their own
            log.warning("the run's lease could not be ended and will expire: %r", error)

    def _renew(self) -> None:
        with self._lock:
            self._write()

    def _write(self, *, ended: bool = False) -> None:
        folders = sorted(self._folders)
        data = _lease_bytes(self._recipe, self._run, folders, ended=ended, trains=self._trains)
        self._storage.write(self._name, data)


class _Renewal:
    """A thread that writes a lease again and again until it is stopped."""

    def __init__(self, write: Callable[[], None]) -> None:
        self._write = write
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(RENEW_INTERVAL_S):
            try:
                self._write()
            except Exception as error:  # noqa: BLE001 - clients of object stores have errors of their own
                log.warning("a lease could not be renewed: %r", error)

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


def read_lease(storage: Storage, name: str) -> Lease | None:
    """Read a lease; ``None`` if it is missing or damaged."""
    try:
        return Lease(**json.loads(storage.read(name)))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def find_training(storage: Storage, recipe: str, before: str) -> Lease | None:
    """Return the lease of a run of a recipe that trains now and started before a run.

    A run that has written its own lease sees each one that was written before: of two runs, at most one
    sees no other. A run on a machine that is lost counts no more after ``TRAINING_TIMEOUT_S``.
    """
    oldest = time.time() - TRAINING_TIMEOUT_S
    return next(
        (
            lease
            for lease in list_leases(storage).values()
            if lease.trains and lease.recipe == recipe and lease.run < before
            if lease.is_live and lease.renewed >= oldest
        ),
        None,
    )


def list_leases(storage: Storage) -> dict[str, Lease]:
    """Read the leases of all runs, live or not, by file."""
    names = [n for n in storage.list_files("runs") if n.endswith(LEASE_SUFFIX) and n != DELETION]
    leases = {name: read_lease(storage, name) for name in names}
    return {name: lease for name, lease in leases.items() if lease is not None}


@contextmanager
def announce_deletion(storage: Storage, folders: Sequence[str]) -> Iterator[None]:
    """Make runs wait for folders that are going to be deleted.

    Raises:
        UserError: if another process is deleting.
    """
    other = read_lease(storage, DELETION)
    if other is not None and not other.is_live:
        storage.remove(DELETION)
    if not storage.put_if_absent(DELETION, _lease_bytes("", "", folders)):
        raise UserError(f"{storage.url}: another gc is running; wait for it to finish")
    renewal = _Renewal(lambda: storage.write(DELETION, _lease_bytes("", "", folders)))
    try:
        yield
    finally:
        renewal.stop()
        storage.remove(DELETION)


def _lease_bytes(
    recipe: str, run: str, folders: Sequence[str], *, ended: bool = False, trains: bool = False
) -> bytes:
    lease = Lease(
        recipe=recipe,
        run=run,
        host=socket.gethostname(),
        pid=os.getpid(),
        boot=boot_id(),
        renewed=time.time(),
        ended=ended,
        folders=list(folders),
        trains=trains,
    )
    return json.dumps(asdict(lease), sort_keys=True).encode()
