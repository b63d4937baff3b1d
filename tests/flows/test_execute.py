"""Steps share the cores of a machine."""

import threading
import time

import pytest

from flows.execute import ResourcePool
from infra.compute.processes import RunCancelled


def test_steps_run_side_by_side_only_if_they_fit() -> None:
    pool, lock = ResourcePool(2), threading.Lock()
    busy = max_busy = 0

    def work(count: int) -> None:
        nonlocal busy, max_busy
        with pool.reserve(count):
            with lock:
                busy += min(count, 2)
                max_busy = max(max_busy, busy)
            time.sleep(0.01)
            with lock:
                busy -= min(count, 2)

    threads = [threading.Thread(target=work, args=(count,)) for count in (1, 1, 2, 5, 1, 1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max_busy == 2


def test_a_cancelled_pool_reserves_nothing() -> None:
    pool = ResourcePool(2)
    pool.cancel()
    with pytest.raises(RunCancelled), pool.reserve(1):
        pass
