"""The cluster: results in any order, and a killed worker costs only the units it was working on."""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

import psutil
import pytest
from distributed.core import Status
from pydantic import ValidationError

from infra.compute.clock import ClockSetBackError
from infra.compute.cluster import (
    DaskCluster,
    SchedulerUnreachableError,
    WorkerMemoryError,
    local_workers,
)
from infra.compute.cluster_config import CLASSES_ENV, KWARGS_ENV, SCHEDULERS_ENV, ClusterConfig
from infra.compute.processes import RunCancelled
from infra.errors import UserError
from infra.store.storage import Storage
from tests.limits import WAIT_TIMEOUT_S, wait_for
from tests.processes import is_alive, process_tree
from tests.servers import BIN, free_port


def cluster(**config: object) -> DaskCluster:
    return DaskCluster(ClusterConfig.model_validate(config))


def square(number: int) -> int:
    return number * number


STEP = ContextVar("STEP", default="none")


def log_line(number: int) -> None:
    """Log as a stage does on a worker."""
    logging.getLogger("tasks.something").info("line %d", number)


class Lines(logging.Handler):
    """Collects lines with the step in whose context they are handled."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.getMessage(), STEP.get()))


def slow_record(number: int, folder: str) -> int:
    """Record in files that it ran, and in which process."""
    (Path(folder) / f"{number}-{time.monotonic_ns()}").touch()
    (Path(folder) / f"pid-{os.getpid()}").touch()
    time.sleep(0.05)
    return number


RELEASED = threading.Event()  # of the units of a cluster in this process


def wait_until_released(number: int) -> int:
    """Return the first number at once, and the others when the test allows it."""
    if number > 0:
        assert RELEASED.wait(WAIT_TIMEOUT_S)
    return number


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """The event that all units but the first wait for."""
    RELEASED.clear()
    yield RELEASED
    RELEASED.set()


def broken(number: int) -> int:
    if number == 3:
        raise ValueError("three is refused")
    return number


def test_a_recipe_names_one_kind_of_cluster() -> None:
    with pytest.raises(ValidationError, match="one of workers, address and cluster_class"):
        cluster(workers=2, address="tcp://x")
    with pytest.raises(ValidationError, match="cluster_kwargs belong"):
        cluster(workers=2, cluster_kwargs={"a": 1})


def test_a_recipe_starts_no_other_callable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("subprocess.Popen", "os.system", "distributed.SSHCluster", "", "evil.Cluster"):
        with pytest.raises(ValidationError, match="cluster_class"):
            ClusterConfig(cluster_class=name)
    monkeypatch.setenv(CLASSES_ENV, "subprocess.Popen, nowhere.Cluster")
    for name in ("subprocess.Popen", "nowhere.Cluster"):
        with cluster(cluster_class=name) as named, pytest.raises(UserError, match="cluster_class"):
            named.client()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("preload", ["evil.py"]),
        ("preload_nanny", ["evil.py"]),
        ("plugins", ["evil.Plugin"]),
        ("worker_class", "evil.Worker"),
        ("scheduler_kwargs", {"preload": ["evil.py"]}),
        ("env", {"LD_PRELOAD": "evil.so"}),
        ("config", {"distributed.worker.preload": ["evil.py"]}),
        ("image", "evil/image"),
        ("worker_command", ["sh", "-c", "evil"]),
        ("custom_cluster_spec", {}),
        ("python", "evil/python"),
        ("job_script_prologue", ["evil"]),
        ("job_extra_directives", ["--wrap=evil"]),
        ("queue", "normal\nevil"),
        ("resources", {"cpu": "1\nevil"}),
        ("host", "0.0.0.0"),
    ],
)
def test_arguments_of_a_cluster_class_cannot_hold_code(name: str, value: object) -> None:
    for cluster_class in ("distributed.LocalCluster", "dask_jobqueue.SLURMCluster"):
        with pytest.raises(ValidationError, match=f"cluster_kwargs.{name}"):
            ClusterConfig(cluster_class=cluster_class, cluster_kwargs={name: value})


def test_the_operator_of_a_machine_can_allow_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KWARGS_ENV, "preload, image")
    config = ClusterConfig(
        cluster_class="distributed.LocalCluster",
        cluster_kwargs={"preload": ["ours.py"], "n_workers": 1},
    )
    assert config.cluster_kwargs["preload"] == ["ours.py"]
    local, remote = "tcp://127.0.0.1:8786", "tcp://scheduler:8786"
    trusted = [ClusterConfig(address=address).is_trusted for address in (local, remote)]
    monkeypatch.setenv(SCHEDULERS_ENV, remote)
    trusted.append(ClusterConfig(address=remote).is_trusted)
    assert trusted == [True, False, True]


def test_a_worker_needs_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for too_small in ("220MiB", "1MiB", "much"):
        with pytest.raises(ValidationError, match="memory_limit"):
            ClusterConfig(workers=1, memory_limit=too_small)
    # A small container: 2 GB for 8 cores.
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", 2_000_000_000)
    monkeypatch.setattr("dask.system.CPU_COUNT", 8)
    workers, limit = local_workers(ClusterConfig())
    assert (workers, limit) == (2, 800_000_000)
    assert local_workers(ClusterConfig(memory_limit="1GiB")) == (1, 1 << 30)
    with pytest.raises(WorkerMemoryError, match="memory_limit"):
        local_workers(ClusterConfig(workers=8))
    assert local_workers(ClusterConfig(workers=8, memory_limit="600MiB")) == (8, 600 << 20)


def allocate(n_bytes: int) -> int:
    return len(bytearray(os.urandom(1 << 20) * (n_bytes >> 20)))


@pytest.mark.e2e
def test_work_that_does_not_fit_into_a_worker_ends_with_an_error() -> None:
    with (
        cluster(workers=1, memory_limit="512MiB") as one,
        pytest.raises(WorkerMemoryError, match="memory_limit"),
    ):
        list(one.map(allocate, [(2 << 30,)]))


@pytest.mark.e2e
def test_workers_of_a_cancelled_run_end_at_once_and_are_not_started_again() -> None:
    with cluster(workers=1) as own:
        (pid,) = own.client().run(os.getpid).values()
        worker = psutil.Process(pid)
        own.cancel()
        wait_for(lambda: not is_alive(worker))
        wait_for(lambda: not own.client().scheduler_info()["workers"])
        (nanny,) = own._cluster.workers.values()
        wait_for(lambda: nanny.status == Status.closed)
        assert nanny.process is None  # another worker would be its process


@pytest.mark.e2e
def test_a_storage_that_workers_do_not_see_is_refused(tmp_path: Path) -> None:
    """The worker has another file system than the run where one of two stores is."""
    seen, own = Storage(str(tmp_path / "seen")), Storage(str(tmp_path / "own"))
    for storage in (seen, own):
        storage.write("a", b"")
    address = f"tcp://127.0.0.1:{free_port()}"
    mount = 'mount -t tmpfs none "$1" && shift && exec "$@"'
    with_own_disk = ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh", own.url]
    dask = str(BIN / "dask")
    worker = [dask, "worker", address, "--no-nanny", "--nthreads=1", "--no-dashboard"]
    with (
        process_tree([dask, "scheduler", f"--host={address}", "--no-dashboard"]),
        process_tree([*with_own_disk, *worker]),
        cluster(address=address) as remote,
    ):
        remote.client().wait_for_workers(1, timeout=WAIT_TIMEOUT_S)
        remote.check_storage(seen)
        with pytest.raises(UserError, match=r"storage: .*/own is .* tcp://127\.0\.0\.1:"):
            remote.check_storage(own)
        remote.check_storage(Storage("memory://anywhere"))
    assert [seen.list_files(), own.list_files()] == [["a"], ["a"]]
    with cluster(workers=0) as here:
        here.check_storage(Storage(str(tmp_path / "missing")))


def test_without_workers_units_run_in_this_process() -> None:
    with cluster(workers=0) as here:
        assert list(here.map(square, [(2,), (3,)])) == [(0, 4), (1, 9)]
        with pytest.raises(ValueError, match="three"):
            list(here.map(broken, [(1,), (3,)]))


@pytest.mark.e2e
def test_a_named_class_an_address_and_an_error(tmp_path: Path) -> None:
    arguments = {"n_workers": 1, "threads_per_worker": 1}
    with cluster(cluster_class="distributed.LocalCluster", cluster_kwargs=arguments) as named:
        assert dict(named.map(square, [(n,) for n in range(5)])) == {n: n * n for n in range(5)}
        assert not named.is_local, "a class may start workers anywhere"
        with cluster(address=named.client().scheduler.address) as connected:
            assert connected.is_local
            assert dict(connected.map(square, [(7,)])) == {0: 49}
        with pytest.raises(ValueError, match="three is refused"):
            list(named.map(broken, [(1,), (3,)]))
        assert dict(named.map(square, [(2,)])) == {0: 4}, "the owner's cluster keeps running"


@pytest.mark.e2e
def test_a_line_of_a_worker_is_logged_in_the_context_of_the_step_that_submitted_the_task() -> None:
    handler, logger = Lines(), logging.getLogger("tasks")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    token = STEP.set("none")
    try:
        with (
            cluster(workers=1, memory_limit="1GiB") as own,
            cluster(address=own.client().scheduler.address) as other,
        ):
            for step, number, where in (("first", 1, own), ("second", 2, own), ("third", 3, other)):
                STEP.set(step)
                list(where.map(log_line, [(number,)]))
            STEP.set("none")
            wait_for(lambda: len(handler.lines) >= 3)
    finally:
        logger.removeHandler(handler)
        STEP.reset(token)
    # Two runs share the workers: each gets its own lines only.
    assert sorted(handler.lines) == [("line 1", "first"), ("line 2", "second"), ("line 3", "third")]


@pytest.mark.e2e
def test_a_killed_worker_costs_only_its_parts_in_flight(tmp_path: Path) -> None:
    numbers = 60
    with cluster(workers=2) as two:
        results = {}
        for index, result in two.map(slow_record, [(n, str(tmp_path)) for n in range(numbers)]):
            results[index] = result
            if len(results) == 10:
                pids = [int(path.name[4:]) for path in tmp_path.glob("pid-*")]
                os.kill(pids[0], signal.SIGKILL)
        assert results == {n: n for n in range(numbers)}
    runs = [path for path in tmp_path.iterdir() if not path.name.startswith("pid-")]
    # What the dead worker held was at most its queue: far from all of it.
    assert numbers <= len(runs) <= numbers + 20


def brittle(number: int, folder: str) -> "Brittle":
    """Return a result that kills its worker; fail if that was tried before."""
    path = Path(folder) / str(number)
    if path.exists():
        raise ValueError("not a second time")
    path.touch()
    return Brittle()


class Brittle:
    def __reduce__(self) -> tuple[type, tuple[()]]:
        os.kill(os.getpid(), signal.SIGKILL)
        return Brittle, ()


@pytest.mark.e2e
def test_a_result_that_dies_with_its_worker_is_computed_again(tmp_path: Path) -> None:
    with (
        cluster(workers=1) as one,
        pytest.raises(ValueError, match="not a second time"),
    ):
        list(one.map(brittle, [(0, str(tmp_path))]))


@pytest.mark.e2e
def test_a_lost_connection_is_an_error(released: threading.Event) -> None:
    # Without a nanny, in threads: only the connection is of interest.
    arguments = {"n_workers": 1, "threads_per_worker": 1, "processes": False}
    named = cluster(cluster_class="distributed.LocalCluster", cluster_kwargs=arguments)
    with named, cluster(address=named.client().scheduler.address) as connected:
        client = connected.client()
        results = connected.map(wait_until_released, [(0,), (1,), (2,)])
        assert next(results) == (0, 0)
        client.loop.add_callback(client.scheduler_comm.comm.abort)
        with pytest.raises(
            SchedulerUnreachableError, match="the connection to the Dask scheduler inproc://"
        ):
            list(results)
        released.set()


@pytest.mark.e2e
def test_a_clock_that_is_set_back_ends_a_run_that_stands_still(
    released: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = {"n_workers": 1, "threads_per_worker": 1, "processes": False}
    monkeypatch.setattr("infra.compute.clock.STALL_TIMEOUT_S", 1.0)
    with cluster(cluster_class="distributed.LocalCluster", cluster_kwargs=arguments) as one:
        results = one.map(wait_until_released, [(0,), (1,)])
        assert next(results) == (0, 0)
        with monkeypatch.context() as patch:
            present = time.time
            patch.setattr(time, "time", lambda: present() - 3600)
            with pytest.raises(ClockSetBackError, match="was set back"):
                list(results)
        released.set()


def test_a_client_that_reconnects_does_not_keep_a_cluster_from_being_closed() -> None:
    closed: list[str] = []

    class Client:
        def close(self) -> None:
            raise RuntimeError(message)

    class Own:
        def close(self) -> None:
            closed.append("cluster")

    for message in ("ConnectionPool is closed", "something else"):
        here = cluster(address="tcp://127.0.0.1:8786")
        here._client, here._cluster = Client(), Own()
        if message == "something else":
            with pytest.raises(RuntimeError, match=message):
                here.close()
        else:
            here.close()
    assert closed == ["cluster"]


def test_a_scheduler_without_workers_is_not_local() -> None:
    class Client:
        workers: list[str]

        def scheduler_info(self, n_workers: int) -> dict[str, list[str]]:
            assert n_workers == -1
            return {"workers": self.workers}

    here = cluster(address="tcp://127.0.0.1:8786")
    client = here._client = Client()
    for workers, expected in (
        ([], False),
        (["tcp://127.0.0.1:1"], True),
        (["tcp://127.0.0.1:1", "tcp://10.0.0.7:1"], False),
    ):
        client.workers = workers
        assert here.is_local == expected
    here._client = None


@pytest.mark.e2e
def test_a_cluster_that_is_closed_ends_what_runs_on_it(released: threading.Event) -> None:
    arguments = {"n_workers": 1, "threads_per_worker": 1, "processes": False}
    with cluster(cluster_class="distributed.LocalCluster", cluster_kwargs=arguments) as named:
        results = named.map(wait_until_released, [(0,), (1,), (2,)])
        assert next(results) == (0, 0)
        closing = threading.Thread(target=named.close)
        closing.start()
        with pytest.raises(RunCancelled):
            list(results)
        released.set()
        closing.join()
