"""The pipeline over seven hosts, each with an address of its own, while their links are cut one by one."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.store.storage import Storage
from tests.e2e.seven_hosts import deciding, has_reached, pair_recipe, seven_hosts
from tests.hosts import Host
from tests.inline import data_bytes, go
from tests.limits import WAIT_TIMEOUT_S, wait_for
from tests.servers import s3_environment

pytestmark = pytest.mark.e2e

CUT_S = 5.0  # how long a link is down
POLL_S = 0.3  # between two listings of the store
CUTS = {"acquire": "worker-1", "annotate": "scheduler", "dedup": "store", "select": "prefect"}


@contextmanager
def cut(host: Host) -> Iterator[None]:
    """Cut the link of a host for a while."""
    host.disconnect()
    try:
        time.sleep(CUT_S)
    finally:
        host.connect()
    yield


def test_a_run_over_seven_hosts_survives_cut_links_with_the_bytes_of_one_host(
    tmp_path: Path,
) -> None:
    local = pair_recipe(tmp_path)
    with seven_hosts(tmp_path) as made, s3_environment(made.env):
        distributed = made.recipe(local, "hosts")
        files = Storage(distributed["storage"])
        with made.run(distributed, "hosts") as (driver, trainer):
            for stage, name in CUTS.items():
                wait_for(lambda s=stage: has_reached(files, s) or driver.poll(), driver, POLL_S)  # type: ignore[misc]
                with cut(made.hosts[name]):
                    pass
            wait_for(lambda: has_reached(files, "checkpoint") or driver.poll(), driver, POLL_S)
            with cut(made.hosts["trainer"]):
                pass
            assert driver.wait(WAIT_TIMEOUT_S) == 0, made.logs()
            assert trainer.wait(WAIT_TIMEOUT_S) == 0, made.logs()
        got = deciding({name: files.read(name) for name in files.list_files()})
    go(local, until="evaluate")
    assert got == deciding(data_bytes(tmp_path / "local"))
