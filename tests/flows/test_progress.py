"""What is published while a run lasts."""

from types import SimpleNamespace
from typing import Any

import pytest

from flows import progress
from flows.execute import StepResult
from flows.progress import PrefectReporter
from infra.compute.progress import Progress
from infra.dataset.manifest import Counts


class Recorder:
    """Stands for the artifacts of a run on a server: the latest version of each, by name."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.bars: dict[str, tuple[float, str]] = {}
        self.links: dict[str, str] = {}

    def put_progress(self, name: str, percent: float, description: str) -> None:
        self.bars[name] = (percent, description)

    def put_table(self, name: str, rows: list[dict[str, Any]], description: str) -> None:
        self.rows = rows

    def put_link(self, name: str, url: str, description: str) -> None:
        self.links[name] = url

    def delete(self, name: str) -> None:
        self.links.pop(name, None)
        self.bars.pop(name, None)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(progress, "RunArtifacts", lambda _recipe: recorder)
    return recorder


def finish(step: str, source: str, completed: int) -> None:
    """Run a step that reports its progress and ends, then end the run."""
    reporter = PrefectReporter("small")
    for number in range(completed + 1):
        reporter.update(Progress(step, source, number, completed))
    dataset: Any = SimpleNamespace(counts=Counts(completed, completed))
    result = StepResult(step, source, None, "folder", dataset, 1.0, cached=False)
    reporter.step_finished(result, [result])
    reporter.close(keep_links=False)


def test_a_long_step_has_a_progress_bar_that_ends_with_its_rate(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PROGRESS_DELAY_S", 0.0)
    finish("extract", "site", 1200)
    percent, text = recorder.bars["progress extract site"]
    assert percent == 100
    assert "1,200 parts in " in text
    assert text.endswith("/s")


def test_what_a_step_makes_for_itself_leaves_no_progress_bar(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PROGRESS_DELAY_S", 0.0)
    finish("annotate", "site", 1200)
    reporter = PrefectReporter("small")
    reporter.update(Progress("signatures", "site", 1, 2))
    reporter.update(Progress("signatures", "site", 2, 2))
    reporter.close(keep_links=False)
    assert recorder.bars == {}


def test_a_short_step_has_no_progress_bar(recorder: Recorder) -> None:
    finish("annotate", "site", 1)
    assert recorder.bars == {}
    assert [row["step"] for row in recorder.rows] == ["annotate site"]


@pytest.mark.parametrize("keep_links", [True, False])
def test_a_link_is_kept_if_what_it_leads_to_outlives_the_run(
    recorder: Recorder, keep_links: bool
) -> None:
    reporter = PrefectReporter("small")
    reporter.link("Dask dashboard", "http://127.0.0.1:8787/status")
    reporter.close(keep_links=keep_links)
    assert bool(recorder.links) == keep_links
