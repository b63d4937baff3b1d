"""Run the cases, and print a table of what became of each: `python -m benchmarks.chaos [WORD ...]`.

With words, only the cases whose key contains one of them. Exits with 1 if anything of any case is wrong.
Needs root: it mounts small disks and makes network namespaces.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from subprocess import SubprocessError

import psutil

from benchmarks.chaos import faults, network, races, storage
from benchmarks.chaos.case import Case
from benchmarks.chaos.network import Cut
from benchmarks.chaos.rig import Outcome, Rig
from tests.processes import guarded

CASES: tuple[Case, ...] = (*faults.CASES, *storage.CASES, *races.CASES)
HEADER = "| fault | after | the run | after s | the next run | files, processes, data |"


def main() -> int:
    """Run the cases; 1 if one is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD", help="part of a case's key")
    parser.add_argument("--list", action="store_true", help="list the keys and end")
    parser.add_argument("--log", type=Path, help="append a JSON line per case to this file")
    options = parser.parse_args()

    def chosen(key: str) -> bool:
        return not options.words or any(word in key for word in options.words)

    cases = [case for case in CASES if chosen(case.key)]
    cuts = [cut for cut in network.CASES if chosen(cut.key)]
    if not cases and not cuts:
        parser.error("no case has such a key")
    if options.list:
        print("\n".join([*(case.key for case in cases), *(cut.key for cut in cuts)]))
        return 0
    if os.geteuid() != 0:
        parser.error("only root can mount disks and make network namespaces")
    print(f"{HEADER}\n{'|---' * (HEADER.count('|') - 1)}|", flush=True)
    wrong = 0
    with guarded(), tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        results: Iterator[tuple[Case | Cut, Outcome]] = chain(
            _on_stack(folder / "stack", cases), _on_hosts(folder / "hosts", cuts)
        )
        for case, outcome in results:
            wrong += bool(outcome.problems)
            row = _row(case, outcome)
            print(row, flush=True)
            for problem in outcome.problems:
                print(f"    {problem}", file=sys.stderr, flush=True)
            if options.log:
                line = {"key": case.key, "row": row, "problems": outcome.problems}
                with options.log.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(line) + "\n")
    total = len(cases) + len(cuts)
    print(f"\n{total - wrong} of {total} right")
    return 1 if wrong else 0


def _on_stack(folder: Path, cases: Sequence[Case]) -> Iterator[tuple[Case, Outcome]]:
    if not cases:
        return
    with Rig(folder).running() as rig:
        _undisturbed(rig)
        for case in cases:
            rig.note_files()
            yield case, _attempt(lambda case=case: case.run(rig, case))  # type: ignore[misc]


def _on_hosts(folder: Path, cuts: Sequence[Cut]) -> Iterator[tuple[Cut, Outcome]]:
    if not cuts:
        return
    with network.network_rig(folder) as rig:
        for cut in cuts:
            yield cut, _attempt(lambda cut=cut: network.run(rig, cut))  # type: ignore[misc]


def _undisturbed(rig: Rig) -> None:
    storage = rig.storage_of("undisturbed")
    value = rig.recipe(storage)
    rig.deploy(value)
    start = time.monotonic()
    state, message = rig.wait_ended(rig.start(value))
    if state != "COMPLETED":
        log = rig.layout.log("prefect-worker").read_text()[-3000:]
        raise RuntimeError(f"the undisturbed run ended as {state}: {message}\n{log}")
    print(f"the undisturbed run took {time.monotonic() - start:.0f} s", file=sys.stderr)
    rig.record_reference(storage)


def _attempt(run: Callable[[], Outcome]) -> Outcome:
    start = time.monotonic()
    try:
        return run()
    except (AssertionError, OSError, RuntimeError, psutil.Error, SubprocessError) as error:
        traceback.print_exc()
        return Outcome("-", time.monotonic() - start, problems=[f"{type(error).__name__}: {error}"])


def _row(case: Case | Cut, outcome: Outcome) -> str:
    result = "as undisturbed" if not outcome.problems else f"WRONG: {outcome.problems[0]}"
    cells = (
        case.fault,
        case.moment,
        outcome.state,
        f"{outcome.seconds:.0f}",
        outcome.next_run or "not needed",
        result,
    )
    texts = (" ".join(cell.replace("|", "/").split()) for cell in cells)
    return f"| {' | '.join(texts)} |"


if __name__ == "__main__":
    sys.exit(main())
