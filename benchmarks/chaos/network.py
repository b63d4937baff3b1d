"""Cuts of the network between any two of seven hosts, each a namespace with an address of its own."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.chaos.rig import Outcome
from benchmarks.chaos.terminal import describe, last_error, processes_left, wait_for_exit
from infra.store.storage import Storage
from tests.e2e.seven_hosts import (
    SevenHosts,
    deciding,
    has_reached,
    pair_recipe,
    seven_hosts,
)
from tests.hosts import partition
from tests.inline import data_bytes, go
from tests.limits import wait_for
from tests.servers import s3_environment

CUT_S = 60.0


@dataclass(frozen=True)
class Cut:
    """A row of the table: two hosts that lose what they send each other for a minute."""

    first: str
    second: str
    moment: str

    @property
    def key(self) -> str:
        """Names it on the command line, and its store."""
        return f"cut-{self.first}-{self.second}"

    @property
    def fault(self) -> str:
        """What happens, for a reader."""
        return f"no network between {self.first} and {self.second} for {CUT_S:.0f} s"


@dataclass(frozen=True)
class NetworkRig:
    """The hosts, a recipe, and the data of a run on one host."""

    hosts: SevenHosts
    local: Mapping[str, Any]
    expected: Mapping[str, bytes]


@contextmanager
def network_rig(folder: Path) -> Iterator[NetworkRig]:
    """Start the hosts, and make the reference."""
    folder.mkdir()
    local = pair_recipe(folder)
    go(local, until="evaluate")
    expected = deciding(data_bytes(folder / "local"))
    with seven_hosts(folder) as made, s3_environment(made.env):
        yield NetworkRig(made, local, expected)


def run(rig: NetworkRig, case: Cut) -> Outcome:
    """Run the pipeline with a cut; and again if it does not complete."""
    value = rig.hosts.recipe(rig.local, case.key)
    files = Storage(value["storage"])
    first, second = (rig.hosts.hosts[name] for name in (case.first, case.second))
    with rig.hosts.run(value, case.key) as (driver, trainer):
        wait_for(lambda: has_reached(files, case.moment), driver)
        start = time.monotonic()
        with partition(first, second):
            time.sleep(CUT_S)
        codes = [wait_for_exit(driver), wait_for_exit(trainer)]
        outcome = Outcome(describe(codes[0]), time.monotonic() - start)
        outcome.problems += [*processes_left(driver), *processes_left(trainer)]
    if any(codes):
        outcome.state += (
            f": {_last_error(rig, case.key)}" if codes[0] else ", its second node failed"
        )
        again = f"{case.key}-next"
        with rig.hosts.run(value, again) as (driver, trainer):
            codes = [wait_for_exit(driver), wait_for_exit(trainer)]
        outcome.next_run = describe(codes[0])
        if any(codes):
            outcome.problems.append(f"next run: {_last_error(rig, again)}")
    got = deciding({name: files.read(name) for name in files.list_files()})
    names = got.keys() | rig.expected.keys()
    differing = [name for name in names if got.get(name) != rig.expected.get(name)]
    outcome.problems += [f"differs: {name}" for name in sorted(differing)]
    return outcome


def _last_error(rig: NetworkRig, name: str) -> str:
    return last_error((rig.hosts.folder / f"{name}-run.log").read_text(errors="replace"))


CASES = (
    Cut("driver", "store", "acquire"),
    Cut("driver", "prefect", "acquire"),
    Cut("driver", "scheduler", "acquire"),
    Cut("scheduler", "worker-1", "acquire"),
    Cut("worker-1", "store", "acquire"),
    Cut("worker-1", "worker-2", "acquire"),
    Cut("driver", "trainer", "checkpoint"),
    Cut("trainer", "store", "checkpoint"),
)
