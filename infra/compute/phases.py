"""Run the phases of a stage over the cluster, and resume where an interrupted run stopped.

A phase is a list of tasks none of which waits for another. The result of each finished task is
saved in the stage's work folder, so a later run of the same work runs only the tasks that are
missing. Phases run one after the other; what they pass on is in the work folder, too
(``infra.compute.shuffle``).
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from infra.compute.cluster import DaskCluster
from infra.compute.progress import Progress, Reporter
from infra.store.storage import Storage

RESULTS_FOLDER = "results"


@dataclass(frozen=True)
class Phase:
    """Tasks that may run in any order.

    Attributes:
        name: unique within the work folder; also shown as progress.
        function: module-level; called as ``function(*payload)`` on a worker. Its result must
            survive JSON: tuples come back as lists.
        payloads: picklable arguments, one tuple per task.
    """

    name: str
    function: Callable[..., Any]
    payloads: Sequence[tuple[Any, ...]]

    @property
    def folder(self) -> str:
        """Where the results are, below the work folder."""
        return f"{RESULTS_FOLDER}/{self.name.replace(' ', '-')}"


@dataclass(frozen=True)
class TaskUsage:
    """What a task took, on the clock of its machine; statistics, on which no result depends.

    Attributes:
        start: seconds since 1970.
        end: the same.
        cpu_seconds: of the thread that ran it.
    """

    start: float
    end: float
    cpu_seconds: float


class PhaseRunner:
    """Run phases on a cluster; tasks whose results are saved do not run again.

    Attributes:
        usage: of all finished tasks, those of an interrupted run included.
    """

    def __init__(self, cluster: DaskCluster, reporter: Reporter, work: Storage, stage: str) -> None:
        """Set up a runner for a stage.

        Its work folder must be used for one piece of work only, and not after a restart of the
        machine, since files are written without fsync.
        """
        self._cluster, self._reporter, self._work, self._stage = cluster, reporter, work, stage
        self.usage: list[TaskUsage] = []

    def run(
        self, name: str, function: Callable[..., Any], payloads: Sequence[tuple[Any, ...]]
    ) -> list[Any]:
        """Run one phase; return the results in the order of its payloads."""
        return self.run_parallel(Phase(name, function, payloads))[0]

    def run_parallel(self, *phases: Phase) -> list[list[Any]]:
        """Run phases that do not depend on each other; return the results of each."""
        results: list[list[Any]] = [[None] * len(phase.payloads) for phase in phases]
        tasks, positions = [], []
        for number, phase in enumerate(phases):
            existing = set(self._work.list_files(phase.folder))
            for index, payload in enumerate(phase.payloads):
                file = f"{phase.folder}/{index:06d}.json"
                if file in existing:
                    saved = json.loads(self._work.read(file))
                    results[number][index] = self._take(saved)
                else:
                    tasks.append((self._work, file, phase.function, payload))
                    positions.append((number, index))
        label = " and ".join(phase.name for phase in phases)
        total = sum(len(phase.payloads) for phase in phases)
        completed = total - len(tasks)
        self._report(label, completed, total)
        for position, saved in self._cluster.map(_run_task, tasks):
            number, index = positions[position]
            results[number][index] = self._take(saved)
            completed += 1
            self._report(label, completed, total)
        return results

    def invalidate(self, name: str) -> None:
        """Delete the saved results of a phase, so that all its tasks run again."""
        self._work.subdir(*Phase(name, _run_task, ()).folder.split("/")).remove_tree()

    def training_stats(self, tokens: int) -> dict[str, float]:
        """Return ``cpu_seconds`` and ``tokens_per_second`` of work that has read so many tokens.

        Time in which no task ran, as after a crash, does not count.
        """
        busy, end = 0.0, 0.0
        for item in sorted(self.usage, key=lambda item: item.start):
            busy += max(0.0, item.end - max(item.start, end))
            end = max(end, item.end)
        return {
            "cpu_seconds": sum(item.cpu_seconds for item in self.usage),
            **({"tokens_per_second": tokens / busy} if busy else {}),
        }

    def _take(self, saved: dict[str, Any]) -> Any:
        self.usage.append(TaskUsage(**saved["usage"]))
        return saved["result"]

    def _report(self, label: str, completed: int, total: int) -> None:
        progress = Progress(self._stage, None, completed, total, units="tasks", phase=label)
        self._reporter.update(progress)


def _run_task(work: Storage, file: str, function: Callable[..., Any], payload: Any) -> Any:
    """Run one task on a worker and save its result and what it took."""
    start, cpu = time.time(), time.thread_time()
    result = function(*payload)
    usage = TaskUsage(start, time.time(), time.thread_time() - cpu)
    data = json.dumps({"result": result, "usage": vars(usage)}).encode()
    work.write(file, data, durable=False)
    return json.loads(data)  # the same value as one that a later run reads
