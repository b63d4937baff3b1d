"""A run from a terminal that is disturbed, and the next one if it fails."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from benchmarks.chaos.case import Case
from benchmarks.chaos.rig import END_LIMIT_S, Outcome, Rig
from tests.limits import wait_for
from tests.processes import TreeProcess

LOCAL_CLUSTER = {"cluster": {"workers": 2}}


@dataclass
class Surroundings:
    """What a case sets up around its run.

    Attributes:
        storage: where the run stores its data.
        env: environment variables of the run.
        prefix: what its command starts with.
        inject: the fault.
        repair: what an operator does about it before the next run.
        changes: settings of the recipe that differ.
    """

    storage: str
    inject: Callable[[TreeProcess], None]
    env: Mapping[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    repair: Callable[[], None] = lambda: None
    changes: Mapping[str, Any] = field(default_factory=lambda: LOCAL_CLUSTER)


Prepare = Callable[[Rig, str], Iterator[Surroundings]]


def in_terminal(prepare: Prepare) -> Callable[[Rig, Case], Outcome]:
    """Return a case's function: ``prepare`` is a generator that yields the surroundings once."""

    def run(rig: Rig, case: Case) -> Outcome:
        with contextmanager(prepare)(rig, case.key) as around:
            value = rig.recipe(around.storage, **around.changes)
            log = rig.folder / f"{case.key}.log"
            with rig.terminal(value, case.key, around.prefix, **around.env) as process:
                rig.wait_until(around.storage, case.moment, lambda: process.poll() is not None)
                start = time.monotonic()
                around.inject(process)
                code = wait_for_exit(process)
                outcome = Outcome(describe(code), time.monotonic() - start)
                outcome.problems += processes_left(process)
            text = log.read_text(errors="replace")
            if "Traceback" in text:
                outcome.problems.append(f"a traceback in {log}")
            around.repair()
            if code:
                outcome.state += f": {last_error(text)}"
                with rig.terminal(value, f"{case.key}-next", around.prefix, **around.env) as again:
                    code = wait_for_exit(again)
                outcome.next_run = describe(code)
                if code == 0:
                    outcome.next_run += f", {rig.reused_steps(around.storage)}"
                else:
                    text = (rig.folder / f"{case.key}-next.log").read_text(errors="replace")
                    outcome.problems.append(f"next run: {last_error(text)}")
            outcome.problems += rig.check(around.storage)
            return outcome

    return run


def wait_for_exit(process: TreeProcess) -> int | None:
    """Wait for the end of a run; ``None`` if it does not come."""
    with suppress(AssertionError):
        deadline = time.monotonic() + END_LIMIT_S
        wait_for(lambda: process.poll() is not None or time.monotonic() > deadline)
    return process.poll()


def describe(code: int | None) -> str:
    """An exit status in a word."""
    if code is None:
        return "running"
    return "completed" if code == 0 else f"exit status {code}"


def processes_left(process: TreeProcess) -> list[str]:
    """What a run that has ended still has running."""
    with suppress(AssertionError):
        deadline = time.monotonic() + 10
        wait_for(lambda: not process.members() or time.monotonic() > deadline)
    return [f"still running: {' '.join(item.cmdline())[:200]}" for item in process.members()]


def last_error(text: str) -> str:
    """The message of a command that failed."""
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    return lines[-1].removeprefix("error: ")[:200] if lines else text[-200:]


def fill_disk(folder: str) -> None:
    """Fill the file system of a folder to the last byte."""
    with open(os.path.join(folder, "filler"), "wb", buffering=0) as out:  # noqa: PTH118, PTH123
        with suppress(OSError):
            while True:
                out.write(bytes(1 << 16))
        with suppress(OSError):
            while True:
                out.write(b"0")
