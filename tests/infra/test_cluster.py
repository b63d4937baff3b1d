"""The cluster: results in any order, and a killed worker costs only the units it was working on."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from infra.compute.cluster import ClusterConfig, DaskCluster, SchedulerUnreachableError
from infra.compute.processes import RunCancelled


def cluster(**config: object) -> DaskCluster:
    return DaskCluster(ClusterConfig.model_validate(config))


def square(number: int) -> int:
    return number * number


def slow_record(number: int, folder: str) -> int:
    """Record in files that it ran, and in which process."""
    (Path(folder) / f"{number}-{time.monotonic_ns()}").touch()
    (Path(folder) / f"pid-{os.getpid()}").touch()
    time.sleep(0.05)
    return number


def broken(number: int) -> int:
    if number == 3:
        raise ValueError("three is refused")
    return number


def test_a_recipe_names_one_kind_of_cluster() -> None:
    with pytest.raises(ValidationError, match="one of workers, address and cluster_class"):
        cluster(workers=2, address="tcp://x")
    with pytest.raises(ValidationError, match="cluster_kwargs belong"):
        cluster(workers=2, cluster_kwargs={"a": 1})
    assert (
        ClusterConfig.model_validate(
            {"cluster_class": "a.B", "cluster_kwargs": {"n": 1}}
        ).cluster_class
        == "a.B"
    )


def test_without_workers_units_run_in_this_process() -> None:
    with cluster(workers=0) as here:
        assert list(here.map(square, [(2,), (3,)])) == [(0, 4), (1, 9)]
        with pytest.raises(ValueError, match="three"):
            list(here.map(broken, [(1,), (3,)]))


@pytest.mark.e2e
def test_a_named_class_an_address_and_an_error(tmp_path: Path) -> None:
    arguments = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
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
@pytest.mark.timeout(60)
def test_a_result_that_dies_with_its_worker_is_computed_again(tmp_path: Path) -> None:
    with (
        cluster(workers=1) as one,
        pytest.raises(ValueError, match="not a second time"),
    ):
        list(one.map(brittle, [(0, str(tmp_path))]))


@pytest.mark.e2e
@pytest.mark.timeout(60)
def test_a_lost_connection_is_an_error() -> None:
    # Without a nanny, in threads: only the connection is of interest.
    arguments = {"n_workers": 1, "threads_per_worker": 1, "processes": False}
    named = cluster(cluster_class="distributed.LocalCluster", cluster_kwargs=arguments)
    with named, cluster(address=named.client().scheduler.address) as connected:
        client = connected.client()
        results = connected.map(time.sleep, [(0.01,), (0.5,), (0.5,)])
        assert next(results) == (0, None)
        client.loop.add_callback(client.scheduler_comm.comm.abort)
        with pytest.raises(
            SchedulerUnreachableError, match="the connection to the Dask scheduler inproc://"
        ):
            list(results)


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
@pytest.mark.timeout(60)
def test_a_cluster_that_is_closed_ends_what_runs_on_it() -> None:
    arguments = {"n_workers": 1, "threads_per_worker": 1, "processes": False}
    with cluster(cluster_class="distributed.LocalCluster", cluster_kwargs=arguments) as named:
        results = named.map(time.sleep, [(0.01,), (2,), (2,)])
        assert next(results) == (0, None)
        closing = threading.Thread(target=named.close)
        closing.start()
        with pytest.raises(RunCancelled):
            list(results)
        closing.join()
