"""A case: a fault at a moment of a run, and what must become of it."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.chaos import victims
from benchmarks.chaos.rig import END_LIMIT_S, Outcome, Rig

STOPPED_S = 60.0


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        key: names it on the command line, and its store.
        fault: what happens, for a reader.
        moment: after which commit; ``checkpoint`` is the first one of the training.
        run: does it.
    """

    key: str
    fault: str
    moment: str
    run: Callable[[Rig, "Case"], Outcome]


def on_stack(inject: Callable[[Rig], None]) -> Callable[[Rig, Case], Outcome]:
    """A run of the deployment that is disturbed once, and the next one if it does not complete."""

    def run(rig: Rig, case: Case) -> Outcome:
        storage = rig.storage_of(case.key)
        value = rig.recipe(storage)
        flow_run = rig.start(value)
        rig.wait_until(
            storage, case.moment, lambda: rig.state(flow_run)[0] in ("COMPLETED", "FAILED")
        )
        start = time.monotonic()
        inject(rig)
        state, message = rig.wait_ended(flow_run)
        outcome = Outcome(state.lower(), time.monotonic() - start)
        rig.wait_ready()
        if state not in ("COMPLETED", "FAILED", "CRASHED"):
            outcome.problems.append(f"{state.lower()} after {END_LIMIT_S:.0f} s")
        elif state != "COMPLETED":
            outcome.state = f"{outcome.state}: {message}"
            next_run = rig.start(value)
            state, message = rig.wait_ended(next_run)
            outcome.next_run = state.lower()
            if state == "COMPLETED":
                outcome.next_run += f", {rig.reused_steps(storage)}"
            else:
                outcome.problems.append(f"next run: {state.lower()}: {message}")
        outcome.problems += rig.check(storage)
        return outcome

    return run


def killed(key: str, fault: str, moment: str, find: victims.Find) -> Case:
    """A case in which processes are killed."""

    def inject(rig: Rig) -> None:
        victims.send(rig, find, signal.SIGKILL)

    return Case(f"kill-{key}", f"SIGKILL: {fault}", moment, on_stack(inject))


def stopped(key: str, fault: str, moment: str, find: victims.Find) -> Case:
    """A case in which processes do not run for a minute."""

    def inject(rig: Rig) -> None:
        victims.stop_for(rig, find, STOPPED_S)

    return Case(f"stop-{key}", f"SIGSTOP for 60 s: {fault}", moment, on_stack(inject))
