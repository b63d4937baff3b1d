"""The log and its curves; which metrics a run writes is tested in test_loop."""

from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lm.metrics.logger import MetricsLogger, read_jsonl, tensorboard_file


@pytest.fixture(autouse=True)
def names_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Order event files of the same second and process; a resumed run has another second."""
    counter = SimpleNamespace(get=count(100).__next__)
    monkeypatch.setattr("tensorboard.summary.writer.event_file_writer._global_uid", counter)


def write(folder: Path, first: int, end: int, loss: float) -> None:
    """Write the steps after ``first`` up to ``end`` of a run that resumes there."""
    logger = MetricsLogger(folder, first)
    for step in range(first + 1, end + 1):
        logger.write({"step": step, "loss": loss, "clock": 100.0 + step})
    logger.close(failed=False)


def curve(folder: Path, *, alone: bool = False) -> list[tuple[int, float]]:
    """Return what TensorBoard shows of all files, or of the one that is committed."""
    curves = EventAccumulator(str(tensorboard_file(folder) if alone else folder / "tensorboard"))
    curves.Reload()
    return [(item.step, item.value) for item in curves.Scalars("loss")]


def test_curves_have_each_step_once_after_lines_were_removed(tmp_path: Path) -> None:
    write(tmp_path, 0, 6, 1.0)
    write(tmp_path, 3, 5, 2.0)
    assert curve(tmp_path) == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0)]
    assert [
        (line["step"], line["loss"]) for line in read_jsonl(tmp_path / "metrics.jsonl")
    ] == curve(tmp_path)
    assert curve(tmp_path, alone=True) == curve(tmp_path)


def test_curves_are_complete_where_only_the_log_was_restored(tmp_path: Path) -> None:
    """As on another machine, or in a rollback."""
    write(tmp_path / "one", 0, 3, 1.0)
    (tmp_path / "other").mkdir()
    (tmp_path / "one" / "metrics.jsonl").rename(tmp_path / "other" / "metrics.jsonl")
    write(tmp_path / "other", 2, 4, 2.0)
    assert curve(tmp_path / "other") == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)]


def test_a_running_tensorboard_drops_removed_steps(tmp_path: Path) -> None:
    write(tmp_path, 0, 6, 1.0)
    curves = EventAccumulator(str(tmp_path / "tensorboard"))
    curves.Reload()
    write(tmp_path, 3, 5, 2.0)
    curves.Reload()
    points = [(item.step, item.value) for item in curves.Scalars("loss")]
    assert points == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0)]


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, 0, 2, 1.0)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text()[:-3])
    assert [line["step"] for line in read_jsonl(path)] == [1]
    write(tmp_path, 2, 3, 2.0)
    assert [line["step"] for line in read_jsonl(path)] == [1, 3]
