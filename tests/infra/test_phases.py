"""Phases of tasks: order of results, progress, and what a resumed run does not run again."""

import time
from pathlib import Path

import pytest

from infra.compute.cluster import DaskCluster
from infra.compute.cluster_config import ClusterConfig
from infra.compute.phases import Phase, PhaseRunner, TaskUsage
from infra.compute.progress import NullReporter, Progress
from infra.store.storage import Storage


class Recorder(NullReporter):
    def __init__(self) -> None:
        self.counts: list[tuple[str | None, int, int]] = []

    def update(self, progress: Progress) -> None:
        self.counts.append((progress.phase, progress.completed, progress.total))


def double(log: Path, number: int) -> tuple[int, int]:
    """Fail on -1; write down every call."""
    if number == -1:
        raise RuntimeError("interrupted")
    with log.open("a") as file:
        file.write(f"{number}\n")
    return (number, 2 * number)


def runner(root: Path, reporter: NullReporter | None = None) -> PhaseRunner:
    cluster = DaskCluster(ClusterConfig(workers=0))
    return PhaseRunner(cluster, reporter or NullReporter(), Storage(str(root / "work")), "stage")


def calls(root: Path) -> list[int]:
    return [int(line) for line in (root / "log").read_text().split()]


def test_results_come_in_the_order_of_the_payloads(tmp_path: Path) -> None:
    recorder = Recorder()
    log = tmp_path / "log"
    found = runner(tmp_path, recorder).run_parallel(
        Phase("one", double, [(log, 1), (log, 2)]), Phase("two", double, [(log, 3)])
    )
    assert found == [[[1, 2], [2, 4]], [[3, 6]]]
    assert recorder.counts == [("one and two", done, 3) for done in range(4)]


def test_a_resumed_run_runs_only_the_missing_tasks(tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = runner(tmp_path)
    first.run("one", double, [(log, 1)])
    with pytest.raises(RuntimeError):
        first.run("two", double, [(log, 2), (log, -1), (log, 3)])
    second = runner(tmp_path)
    assert second.run("one", double, [(log, 1)]) == [[1, 2]]
    assert second.run("two", double, [(log, 2), (log, 4), (log, 3)]) == [[2, 4], [4, 8], [3, 6]]
    assert calls(tmp_path) == [1, 2, 4, 3]


def work(seconds: float) -> int:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return 1


def test_a_resumed_run_knows_what_the_finished_tasks_took(tmp_path: Path) -> None:
    runner(tmp_path).run("one", work, [(0.05,), (0.05,)])
    time.sleep(0.5)
    second = runner(tmp_path)
    second.run("one", work, [(0.05,), (0.05,)])
    second.run("two", work, [(0.1,)])
    assert sum(item.cpu_seconds for item in second.usage) == pytest.approx(0.2, abs=0.05)
    stats = second.training_stats(1000)
    assert stats["cpu_seconds"] >= 0.2
    # The pause between the two runs is no work; on a busy machine the work itself takes longer.
    whole = max(item.end for item in second.usage) - min(item.start for item in second.usage)
    assert 1000 / stats["tokens_per_second"] <= whole - 0.4
    assert PhaseRunner.training_stats(runner(tmp_path / "none"), 5) == {"cpu_seconds": 0}


def test_tasks_at_the_same_time_count_once(tmp_path: Path) -> None:
    one = runner(tmp_path)
    one.usage += [TaskUsage(5, 7, 1), TaskUsage(0, 4, 1), TaskUsage(1, 3, 1), TaskUsage(6, 8, 1)]
    assert one.training_stats(70) == {"cpu_seconds": 4, "tokens_per_second": 10}


def test_an_invalidated_phase_runs_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    both = runner(tmp_path)
    for name in ("one", "two"):
        both.run(name, double, [(log, 1)])
    both.invalidate("one")
    for name in ("one", "two"):
        both.run(name, double, [(log, 1)])
    assert calls(tmp_path) == [1, 1, 1]
