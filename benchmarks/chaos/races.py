"""Two who do the same at once."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.chaos.case import Case
from benchmarks.chaos.rig import Outcome, Rig
from benchmarks.chaos.terminal import LOCAL_CLUSTER, describe, last_error, wait_for_exit
from infra.dataset.dataset import open_dataset, try_open_dataset
from infra.dataset.manifest import MANIFEST
from infra.store.storage import Storage
from tasks.dedup.task import LATEST_FOLDER
from tests.caches import make_cache
from tests.e2e.command import GRISTMILL, CommandResult, run_to_end, write_recipe

OTHER_MACHINE = ("unshare", "--uts", "sh", "-c", 'hostname other && exec "$@"', "--")
REMOVED = 3  # the number of the file whose first document is removed


def _two_runs(prefix: tuple[str, ...], second: dict[str, str]) -> Case:
    where = "on two machines" if prefix else "on one machine"

    def run(rig: Rig, case: Case) -> Outcome:
        storage = rig.storage_of(case.key)
        value = rig.recipe(storage, **LOCAL_CLUSTER)
        other = value if "name" not in second else {**value, **second}
        env: dict[str, str] = {}
        if prefix:
            (rig.folder / "tmp-other").mkdir(exist_ok=True)
            env["TMPDIR"] = str(rig.folder / "tmp-other")
            env["GRISTMILL_CACHE"] = str(make_cache(rig.folder / "cache-other"))
        start = time.monotonic()
        with (
            rig.terminal(value, f"{case.key}-1") as one,
            rig.terminal(other, f"{case.key}-2", prefix, **env) as two,
        ):
            codes = [wait_for_exit(one), wait_for_exit(two)]
        outcome = Outcome(" and ".join(map(describe, codes)), time.monotonic() - start)
        for number, code in enumerate(codes, 1):
            if code:
                text = (rig.folder / f"{case.key}-{number}.log").read_text(errors="replace")
                outcome.problems.append(f"run {number}: {last_error(text)}")
        own = f"left in the store: {LATEST_FOLDER}/{second.get('name')}/"  # the second recipe's
        outcome.problems += [item for item in rig.check(storage) if not item.startswith(own)]
        return outcome

    if "name" in second:
        return Case("race-publishers", "two recipes publish one corpus at once", "-", run)
    key = "race-machines" if prefix else "race-runs"
    return Case(key, f"two runs of one recipe at once {where}", "-", run)


@contextmanager
def _repeated(rig: Rig, *arguments: str) -> Iterator[list[CommandResult]]:
    """Run a command over and over while the block lasts."""
    results: list[CommandResult] = []
    over = threading.Event()

    def repeat() -> None:
        while not over.is_set():
            results.append(run_to_end([str(GRISTMILL), *arguments], rig.env))

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield results
    finally:
        over.set()
        thread.join()


def _gc(rig: Rig, case: Case) -> Outcome:
    storage = rig.storage_of(case.key)
    value = rig.recipe(storage, **LOCAL_CLUSTER)
    path = write_recipe(rig.folder / f"{case.key}-gc.yaml", value)
    # Without a run before, gc refuses: there is nothing that it could keep.
    before = run_to_end([str(GRISTMILL), "run", str(path), "--until", "acquire"], rig.env)
    start = time.monotonic()
    with rig.terminal(value, case.key) as process:
        rig.wait_until(storage, "annotate", lambda: process.poll() is not None)
        with _repeated(rig, "gc", str(path)) as results:
            code = wait_for_exit(process)
    outcome = Outcome(describe(code), time.monotonic() - start)
    if code:
        text = (rig.folder / f"{case.key}.log").read_text(errors="replace")
        outcome.problems.append(last_error(text))
    failed = [result.err[-300:] for result in (before, *results) if result.code]
    outcome.problems += [f"gc: {text}" for text in failed[:1]]
    outcome.state += f", {len(results)} times gc"
    outcome.problems += rig.check(storage)
    return outcome


def _removal(rig: Rig, case: Case) -> Outcome:
    """A removal during a run; the next run must end with what a removal before any run leads to."""
    start = time.monotonic()
    value, remove = _with_removal(rig, f"{case.key}-during")
    with rig.terminal(value, f"{case.key}-during") as process:
        rig.wait_until(value["storage"], case.moment, lambda: process.poll() is not None)
        removals = [run_to_end(remove, rig.env)]
        state = describe(wait_for_exit(process))
    outcome = Outcome(state, time.monotonic() - start)
    with rig.terminal(value, f"{case.key}-next") as process:
        outcome.next_run = describe(wait_for_exit(process))
    value, remove = _with_removal(rig, f"{case.key}-before")
    removals.append(run_to_end(remove, rig.env))
    with rig.terminal(value, f"{case.key}-before") as process:
        reference = describe(wait_for_exit(process))
    if {state, outcome.next_run, reference} != {"completed"}:
        outcome.problems.append(f"{state}, next run: {outcome.next_run}, reference: {reference}")
    outcome.problems += [f"remove: {item.err[-300:]}" for item in removals if item.code]
    outcome.problems += _differing(rig, case)
    return outcome


def _with_removal(rig: Rig, name: str) -> tuple[dict[str, Any], list[str]]:
    """Return the recipe of a store, and the command that removes a document from it."""
    value = rig.recipe(rig.storage_of(name), **LOCAL_CLUSTER)
    path = write_recipe(rig.folder / f"{name}-remove.yaml", value)
    url = f"https://example.org/{REMOVED}.jsonl/0"
    return value, [str(GRISTMILL), "remove", str(path), "--url", url]


def _differing(rig: Rig, case: Case) -> list[str]:
    """In what the data after the removal differs from that of a run that began with it.

    Data sets are compared by content: parts that the removal does not concern are taken from those before it.
    """
    got, expected = (Storage(rig.storage_of(f"{case.key}-{name}")) for name in ("during", "before"))
    problems = []
    for name in expected.list_files():
        folder, _, file = name.rpartition("/")
        if file == MANIFEST:
            own = try_open_dataset(got, folder)
            reference = open_dataset(expected.subdir(*folder.split("/")))
            if own is None or own.content != reference.content:
                problems.append(f"differs after a removal: {folder}")
    return problems


CASES: tuple[Case, ...] = (
    _two_runs((), {}),
    _two_runs(OTHER_MACHINE, {}),
    _two_runs((), {"name": "second"}),
    Case("race-removal", "a removal during a run, applied by the next one", "annotate", _removal),
    Case("race-gc", "gc over and over during a run", "annotate", _gc),
)
