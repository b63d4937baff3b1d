"""Find the processes that a case kills or stops."""

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import psutil

from benchmarks.chaos.rig import Rig
from tests.limits import wait_for

Find = Callable[[Rig], Sequence[psutil.Process]]


def service(name: str) -> Find:
    """All processes of a service of the stack, without the runs of the Prefect worker."""

    def find(rig: Rig) -> list[psutil.Process]:
        process = rig.service(name)
        if name == "prefect-worker":
            return [process]
        return [process, *process.children(recursive=True)]

    return find


def nanny(rig: Rig) -> list[psutil.Process]:
    """The process of the nannies; the workers are its children."""
    return [rig.service("dask-workers")]


def dask_worker(rig: Rig) -> list[psutil.Process]:
    """The first of the two worker processes."""
    workers = [
        item
        for item in rig.service("dask-workers").children(recursive=True)
        if any("spawn_main" in word for word in item.cmdline())
    ]
    return [min(workers, key=lambda item: item.pid)]


def _with_words(rig: Rig, *words: str) -> list[psutil.Process]:
    found = []
    for process in rig.processes_of_runs():
        with suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if all(word in line for word in words):
                found.append(process)
    return sorted(found, key=lambda item: item.pid)


def flow_process(rig: Rig) -> list[psutil.Process]:
    """The process that runs the flow: a child of the Prefect worker."""
    return rig.service("prefect-worker").children()


def torchrun(rig: Rig) -> list[psutil.Process]:
    """The process torchrun of the training."""
    return _with_words(rig, "torch.distributed.run", "lm.train.worker")


def rank(number: int) -> Find:
    """A training process; they are the children of torchrun, in the order of their start."""

    def find(rig: Rig) -> list[psutil.Process]:
        parents = {item.pid for item in torchrun(rig)}
        ranks = [item for item in _with_words(rig, "lm.train.worker") if item.ppid() in parents]
        return ranks[number : number + 1]

    return find


def power_cut(rig: Rig) -> list[psutil.Process]:
    """The Prefect worker and all processes of its runs."""
    return [rig.service("prefect-worker"), *rig.processes_of_runs()]


def send(rig: Rig, find: Find, number: signal.Signals) -> list[psutil.Process]:
    """Wait for the processes to be there, send all of them a signal, and return them."""
    victims = wait_for(lambda: list(find(rig)))
    for process in victims:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
    return victims


def stop_for(rig: Rig, find: Find, seconds: float) -> None:
    """Stop processes as a paused machine does, and let them go on after a while."""
    victims = send(rig, find, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        for process in victims:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
