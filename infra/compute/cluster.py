"""The Dask cluster of a run: start it or connect to it, and map functions over units of work."""

import importlib
import logging
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import resource_tracker
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from infra.compute.clock import ClockWatch
from infra.compute.cluster_config import (
    LOOPBACK,
    MIN_WORKER_MEMORY,
    ClusterConfig,
)
from infra.compute.processes import RunCancelled
from infra.compute.progress import NullReporter, Reporter
from infra.errors import UserError
from infra.store.storage import Storage

# One thread per worker: stages are compute-bound and run one worker per core.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
MEMORY_FRACTION = 0.8  # of the machine's memory, over all local workers
# Seconds between two messages of the client to the scheduler. With the default of ten milliseconds, a
# step that takes seven waits three more before the next one starts.
CLIENT_BATCH_INTERVAL_S = 0.001
# Units of work that are submitted at a time, if the cluster is not larger than that suffices for.
SUBMIT_BATCH, TASKS_PER_THREAD = 500, 8
POLL_INTERVAL_S = 0.1  # at most; a finished unit wakes this thread up
LOGGED_PACKAGES = ("tasks", "lm", "infra")
CLOSED_MESSAGE = "the run is being stopped: its cluster is closed"


# Dask pauses a worker whose memory is nearly full. Tasks here leave nothing behind that it could
# move to the disk, so a paused worker would wait for ever: it goes on, and is killed at the limit.
MEMORY_SETTINGS = {
    f"distributed.worker.memory.{name}": False for name in ("target", "spill", "pause")
}
# What Dask does in the background of workers, even while they wait for a training to end: looking a
# hundred times per second at what they execute, fifty times at the delay of their event loops, and
# twice at the machine's load. Together that is 2 % of a core for each.
IDLE_SETTINGS = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
}


class SchedulerUnreachableError(UserError):
    """The connection to the Dask scheduler was lost."""


class WorkerMemoryError(UserError):
    """Local workers that cannot work with the memory they get."""


def local_workers(config: ClusterConfig) -> tuple[int, int]:
    """Return the number of local worker processes and the memory limit of each in bytes.

    Raises:
        WorkerMemoryError: if the recipe's number of workers leaves each with too little.
    """
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    total = int(MEMORY_LIMIT * MEMORY_FRACTION)
    fitting = max(1, total // (config.memory_bytes or MIN_WORKER_MEMORY))
    workers = config.workers or min(CPU_COUNT, fitting)
    limit = config.memory_bytes or total // workers
    if limit < MIN_WORKER_MEMORY:
        raise WorkerMemoryError(
            f"cluster.workers: {workers} workers share {total >> 20} MiB, and each needs "
            f"{MIN_WORKER_MEMORY >> 20} MiB; set cluster.workers to {fitting} at most (0 runs in one "
            "process), or set cluster.memory_limit"
        )
    return workers, limit


class DaskCluster:
    """A cluster that starts on first use, is shared by the stages of a run, and stops with it."""

    def __init__(
        self, config: ClusterConfig | None = None, reporter: Reporter | None = None
    ) -> None:
        """Keep the configuration; start nothing."""
        self._config = config or ClusterConfig.model_validate({})
        self._reporter = reporter or NullReporter()
        self._lock = threading.Lock()
        self._cluster: Any = None
        self._client: Any = None
        self._closed = False
        self._logs: Any = None

    @property
    def is_local(self) -> bool:
        """Whether all workers share this machine's page cache."""
        if self._config.cluster_class:
            return False
        if not self._config.address:
            return True
        # Not cached: a worker on another machine may have joined meanwhile.
        workers = self.client().scheduler_info(n_workers=-1)["workers"]
        return bool(workers) and all(
            urlsplit(address).hostname in LOOPBACK for address in (self._config.address, *workers)
        )

    def client(self) -> Any:
        """The ``distributed.Client`` of this run; starts the cluster if need be."""
        with self._lock:
            if self._closed:
                raise RunCancelled(CLOSED_MESSAGE)
            if self._client is None:
                self._client = self._start()
            return self._client

    def _start(self) -> Any:
        from distributed import Client

        from infra.compute.worker_logs import WorkerLogs

        # Dask's own log lines would bury those of the stages.
        logging.getLogger("distributed").setLevel(logging.ERROR)
        if self._config.address:
            client = self._connect(self._config.address)
        else:
            self._cluster = (
                self._start_local() if not self._config.cluster_class else self._from_class()
            )
            client = Client(self._cluster, set_as_default=False)
        if client.scheduler_comm is not None:
            client.scheduler_comm.interval = CLIENT_BATCH_INTERVAL_S
        own_workers = self._config.address is None
        self._logs = WorkerLogs()
        self._logs.forward(client, LOGGED_PACKAGES, logging.INFO, own_workers=own_workers)
        self._reporter.link("Dask dashboard", client.dashboard_link)
        return client

    def _connect(self, address: str) -> Any:
        from distributed import Client

        try:
            return Client(address, set_as_default=False)
        except (OSError, ValueError) as error:
            raise SchedulerUnreachableError(
                f"cluster.address: no Dask scheduler answers at {address} ({error})"
            ) from error

    def _start_local(self) -> Any:
        import dask
        from distributed import LocalCluster

        workers, memory_limit = local_workers(self._config)
        dask.config.set(
            {
                "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
                **MEMORY_SETTINGS,
                **IDLE_SETTINGS,
            }
        )
        # Ctrl-C goes to all processes of a terminal. Workers, which inherit the mask of this thread, leave
        # it to the run, which closes them; otherwise each one would print a traceback.
        resource_tracker.ensure_running()  # it unblocks the signal in the thread that starts it
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=memory_limit,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.ERROR,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _from_class(self) -> Any:
        from distributed.deploy.cluster import Cluster

        dotted_name = str(self._config.cluster_class)
        module, _, name = dotted_name.rpartition(".")
        try:
            cluster_class = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise UserError(
                f"cluster.cluster_class: {dotted_name} is not installed ({error})"
            ) from None
        if not (isinstance(cluster_class, type) and issubclass(cluster_class, Cluster)):
            raise UserError(f"cluster.cluster_class: {dotted_name} is not a Dask cluster class")
        try:
            return cluster_class(**self._config.cluster_kwargs)
        except (TypeError, ValueError) as error:
            raise UserError(f"cluster.cluster_kwargs: {dotted_name}: {error}") from error

    def check_storage(self, storage: Storage) -> None:
        """Raise ``UserError`` unless all workers see a local storage; others may join later."""
        if not (storage.is_local and (self._config.address or self._config.cluster_class)):
            return
        probe = f"work/.probe-{uuid.uuid4().hex}"
        storage.write(probe, b"")
        try:
            workers = self.client().run(_sees_file, storage, probe)
        finally:
            storage.remove(probe)
        blind = sorted(address for address, sees in workers.items() if not sees)
        if blind:
            raise UserError(
                f"storage: {storage.url} is a folder of this machine, which the Dask worker {blind[0]} "
                "does not see; use an object store such as s3://, or a file system that all machines share"
            )

    def map(
        self, function: Callable[..., Any], payloads: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Any]]:
        """Run ``function(*payload)`` for every payload, on any worker, in any order.

        If a worker dies, the payloads it was working on are run again on another one.

        Args:
            function: a module-level function, so that a worker can import it.
            payloads: picklable arguments.

        Yields:
            ``(index of the payload, result)`` as they finish.

        Raises:
            SchedulerUnreachableError: if the connection to the scheduler is lost.
            ClockSetBackError: if this machine's clock was set back, and Dask stands still.
            RunCancelled: if the run is being stopped.
            Exception: the first error that the function raised.
        """
        if self._config.workers == 0 or not payloads:  # in this process, one after the other
            for index, payload in enumerate(payloads):
                yield index, function(*payload)
            return
        from distributed import as_completed

        client = self.client()
        group = f"{getattr(function, '__name__', 'task')}-{uuid.uuid4().hex}"
        self._logs.add_tasks(group)
        running: dict[Any, int] = {}  # the payloads' indices

        # Submit many in one message, and gather all finished results in one: with one message for
        # each, a step of short tasks would take 50 % longer. Not all at once: this process holds ten
        # kilobytes for each that is submitted.
        def submit(indices: range) -> list[Any]:
            columns = zip(*(payloads[index] for index in indices), strict=True)
            keys = [f"{group}-{index}" for index in indices]
            futures: list[Any] = client.map(function, *columns, key=keys, pure=False)
            running.update(zip(futures, indices, strict=True))
            return futures

        step = max(SUBMIT_BATCH, TASKS_PER_THREAD * sum(client.nthreads().values()))
        batches = (
            range(start, min(start + step, len(payloads)))
            for start in range(0, len(payloads), step)
        )
        try:
            # (as_completed with results returns the error of a cancelled future as a result.)
            completed = as_completed(submit(next(batches)), loop=client.loop)
            for done in _iter_finished(completed):
                results = self._gather(client, done)
                if len(running) - len(done) < step // 2 and (indices := next(batches, None)):
                    completed.update(submit(indices))
                for future, result in zip(done, results, strict=True):
                    yield running.pop(future), result
        finally:
            # An empty cancellation would still be sent to every client, and one that is connecting
            # does not expect it.
            pending = [future for future in running if not future.done()]
            if pending:
                client.cancel(pending)

    def _gather(self, client: Any, batch: list[Any]) -> list[Any]:
        """The results of finished futures; raises the first error among them."""
        from distributed import CancelledError, KilledWorker
        from distributed.comm.core import CommClosedError

        try:
            return list(client.gather(batch))
        except KilledWorker as error:
            raise WorkerMemoryError(
                f"cluster: {error.allowed_failures + 1} workers were killed by the same unit of work, "
                "most likely for their memory; set cluster.memory_limit higher, or cluster.workers lower"
            ) from error
        except (CancelledError, CommClosedError) as error:
            if self._closed:
                raise RunCancelled(CLOSED_MESSAGE) from error
            where = self._config.address or "of this run"
            raise SchedulerUnreachableError(
                f"cluster: the connection to the Dask scheduler {where} was lost; run again when it "
                "is reachable: finished work is reused"
            ) from error

    def cancel(self) -> None:
        """Kill the local workers: nobody needs what they work on, and a polite end takes seconds."""
        if self._cluster is None:
            return
        from distributed import Nanny

        for worker in getattr(self._cluster, "workers", {}).values():
            if isinstance(worker, Nanny) and worker.pid:
                worker.close_gracefully()  # it starts no other process
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGKILL)

    def close(self) -> None:
        """Stop what was started; a cluster that was only connected to keeps running."""
        with self._lock:
            self._closed = True
            if self._client is not None:
                try:
                    self._client.close()
                except RuntimeError as error:
                    # The client was reconnecting after its connection had been lost.
                    if "ConnectionPool is closed" not in str(error):
                        raise
            if self._cluster is not None:
                self._cluster.close()
            self._client = self._cluster = None

    def __enter__(self) -> Self:
        """Itself; nothing is started yet."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()


def _iter_finished(completed: Any) -> Iterator[list[Any]]:
    """Yield finished futures, as many as there are at a time."""
    watch = ClockWatch()
    while not completed.is_empty():
        if completed.has_ready():
            watch.progressed()
            yield completed.next_batch(block=False)
        else:
            watch.check()
            with completed.thread_condition:
                completed.thread_condition.wait(timeout=POLL_INTERVAL_S)


def _sees_file(storage: Storage, name: str) -> bool:
    return storage.exists(name)
