"""The Dask cluster of a run: start it or connect to it, and map functions over units of work."""

import importlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from infra.compute.processes import RunCancelled
from infra.compute.progress import NullReporter, Reporter
from infra.config import ConfigModel
from infra.errors import UserError

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
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LOGGED_PACKAGES = ("tasks", "lm", "infra")
CLOSED_MESSAGE = "the run is being stopped: its cluster is closed"


class SchedulerUnreachableError(UserError):
    """The connection to the Dask scheduler was lost."""


class ClusterConfig(ConfigModel):
    """Where units of work are computed: on this machine by default."""

    workers: int | None = Field(
        None,
        ge=0,
        description="local worker processes; 0 runs in this process; default: one per core",
    )
    memory_limit: str | None = Field(
        None,
        description="memory limit per local worker, such as 4GiB; default: an equal fraction of 80 % of the memory",
    )
    address: str | None = Field(None, description="address of a running Dask scheduler")
    cluster_class: str | None = Field(
        None, description="dotted name of a Dask cluster class to start"
    )
    cluster_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="arguments of that class"
    )

    @model_validator(mode="after")
    def _check_exclusive(self) -> Self:
        ways = ("workers", "address", "cluster_class")
        given = [name for name in ways if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(
                f"give one of workers, address and cluster_class, not {' and '.join(given)}"
            )
        if self.cluster_kwargs and self.cluster_class is None:
            raise ValueError("cluster_kwargs belong to cluster_class, which is missing")
        return self


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

        from infra.compute.worker_logs import forward_worker_logs

        # Dask's own log lines would bury those of the stages.
        logging.getLogger("distributed").setLevel(logging.ERROR)
        if self._config.address:
            client = Client(self._config.address, set_as_default=False)
        else:
            self._cluster = (
                self._start_local() if not self._config.cluster_class else self._from_class()
            )
            client = Client(self._cluster, set_as_default=False)
        if client.scheduler_comm is not None:
            client.scheduler_comm.interval = CLIENT_BATCH_INTERVAL_S
        forward_worker_logs(client, LOGGED_PACKAGES, logging.INFO)
        self._reporter.link("Dask dashboard", client.dashboard_link)
        return client

    def _start_local(self) -> Any:
        import dask
        from dask.system import CPU_COUNT
        from distributed import LocalCluster
        from distributed.system import MEMORY_LIMIT

        workers = self._config.workers or CPU_COUNT
        worker_memory = int(MEMORY_LIMIT * MEMORY_FRACTION / workers)
        dask.config.set({"distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT})
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=self._config.memory_limit or worker_memory,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.ERROR,
        )

    def _from_class(self) -> Any:
        module, _, name = str(self._config.cluster_class).rpartition(".")
        return getattr(importlib.import_module(module), name)(**self._config.cluster_kwargs)

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
            RunCancelled: if the run is being stopped.
            Exception: the first error that the function raised.
        """
        if self._config.workers == 0 or not payloads:  # in this process, one after the other
            for index, payload in enumerate(payloads):
                yield index, function(*payload)
            return
        from distributed import as_completed

        client = self.client()
        # Submit all in one message, and gather all finished results in one: with one message for
        # each, a step of short tasks would take 50 % longer. (as_completed with results returns the
        # error of a cancelled future as a result.)
        futures = client.map(function, *zip(*payloads, strict=True), pure=False)
        indices = {future: index for index, future in enumerate(futures)}
        try:
            for batch in as_completed(futures, loop=client.loop).batches():
                for future, result in zip(batch, self._gather(client, batch), strict=True):
                    yield indices[future], result
                    future.release()
        finally:
            # An empty cancellation would still be sent to every client, and one that is connecting
            # does not expect it.
            pending = [future for future in futures if not future.done()]
            if pending:
                client.cancel(pending)

    def _gather(self, client: Any, batch: list[Any]) -> list[Any]:
        """The results of finished futures; raises the first error among them."""
        from distributed import CancelledError
        from distributed.comm.core import CommClosedError

        try:
            return list(client.gather(batch))
        except (CancelledError, CommClosedError) as error:
            if self._closed:
                raise RunCancelled(CLOSED_MESSAGE) from error
            where = self._config.address or "of this run"
            raise SchedulerUnreachableError(
                f"cluster: the connection to the Dask scheduler {where} was lost; run again when it "
                "is reachable: finished work is reused"
            ) from error

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
