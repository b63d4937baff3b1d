"""Rollback after a divergence: real training in this process that is model to diverge."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from infra.compute.progress import Progress
from infra.dataset.dataset import Dataset
from infra.store.cache_dir import ENV_VAR
from infra.store.storage import Storage
from lm.checkpoint.marker import Checkpoint, checkpoint_name, list_complete, write_marker
from lm.config.train import TrainConfig
from lm.data.loader import DataLoader
from lm.data.shuffle import batch_for_step
from lm.launch import torchrun as launching
from lm.launch.rollback import Rollback, TrainingRun, next_rollback
from lm.launch.torchrun import TrainingConfigError
from lm.metrics.goodput import record_attempt, summarize_goodput
from lm.metrics.logger import read_jsonl
from lm.train import worker
from lm.train.job import TrainJob
from lm.train.loss_spike import LossDivergedError, LossSpikeDetector
from lm.train.pretraining import Pretraining
from tasks.train import task
from tests.lm.corpora import context, tiny, token_shards
from tests.lm.poison import poisoned
from tests.train_entry import replace_fields

STEPS = 20
CONFIG = tiny(train_tokens=STEPS * 128, checkpoint_interval=4, max_rollbacks=3, keep_last=9)
Ranges = tuple[tuple[int, int], ...]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return token_shards(tmp_path_factory.mktemp("store"))


class MessageReporter:
    """Keeps the messages of a run."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def update(self, progress: Progress) -> None:
        self.messages.append(progress.message)

    def link(self, name: str, url: str) -> None:
        pass


def poison(monkeypatch: pytest.MonkeyPatch, bad: set[int]) -> list[int]:
    """Make these batches set an infinite learning rate; return the batches that are loaded."""
    loaded, batch, rate = poisoned(bad)
    monkeypatch.setattr(DataLoader, "__next__", batch)
    monkeypatch.setattr("lm.train.loop.learning_rate", rate)
    return loaded


def build(
    tokens: Dataset, root: Path, config: TrainConfig, reporter: MessageReporter | None = None
) -> Dataset:
    ctx = context(root / "models", reporter or MessageReporter())
    return task.build(
        ctx, task.spec(ctx, config=config, tokens=tokens), config=config, tokens=tokens
    )


def record(model: Dataset, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in model.read(f"logs/{name}").decode().splitlines()]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv(ENV_VAR, str(tmp_path / "cache"))
    return tmp_path / "cache"  # type: ignore[return-value]


@pytest.mark.usefixtures("in_process")
def test_a_rollback_skips_a_bad_batch_and_both_runs_are_kept(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = poison(monkeypatch, {13})
    reporter = MessageReporter()
    model = build(tokens, tmp_path, CONFIG, reporter)
    assert model.stats["skip"] == [[13, 15]]
    # From the last checkpoint that was complete: that of step 12, or on a busy machine one before it.
    start = loaded[15]
    assert start in (4, 8, 12)
    assert loaded[15:] == [*range(start, 13), *range(15, 22)]
    (entry,) = json.loads(model.read("logs/rollbacks.json"))
    assert (entry["number"], entry["from_step"], entry["bad_step"]) == (1, start, 15)
    assert (entry["skipped_steps"], entry["kind"], entry["loss"]) == (
        [13, 15],
        "not_finite",
        "nan",
    )
    (message,) = [text for text in reporter.messages if "rollback 1" in text]
    assert all(word in message for word in ("NaN", "step 15", f"step {start}", "13 to 14"))
    lines, abandoned = record(model, "metrics.jsonl"), record(model, "diverged-1/metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert [line["step"] for line in abandoned] == list(range(1, 15))
    assert lines[:start] == abandoned[:start]
    (events,) = (name for name in model.manifest.files if name.startswith("logs/tensorboard/"))
    curves = EventAccumulator(str(model.storage.local_path(model.manifest.files[events].name)))
    curves.Reload()
    assert [item.step for item in curves.Scalars("loss")] == list(range(1, STEPS + 1))
    assert all(math.isfinite(line["loss"]) for line in lines)
    assert [item["step"] for item in record(model, "attempts.jsonl")] == [0, start]
    assert model.stats["replayed_seconds"] > 0
    assert 0 < model.stats["goodput"] < 1
    assert list((tmp_path / "cache" / "train").iterdir()) == []

    # The weights are those of a run that never trained on these batches.
    loaded.clear()
    folder = tmp_path / "never"
    result = worker.run_attempt(TrainJob(CONFIG, 1337, tokens.storage, folder, skip=((13, 15),)))
    assert result["line"]["step"] == STEPS
    expected = load_file(folder / "model.safetensors")
    weights = load_file(
        str(model.storage.local_path(model.manifest.files["model.safetensors"].name))
    )
    assert all(torch.equal(expected[name], weights[name]) for name in expected)


@pytest.mark.usefixtures("in_process")
def test_a_rollback_does_not_start_from_a_checkpoint_that_may_hold_the_bad_update(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The update of batch 11 makes the weights bad that the checkpoint of step 12 holds."""
    monkeypatch.setattr(Pretraining, "held_out_rows", lambda _: np.zeros((0, 17), np.int64))
    loaded = poison(monkeypatch, {11})
    model = build(tokens, tmp_path, CONFIG)
    (entry,) = json.loads(model.read("logs/rollbacks.json"))
    assert (entry["from_step"], entry["bad_step"], entry["skipped_steps"]) == (8, 13, [11, 13])
    assert loaded[13:] == [8, 9, 10, *range(13, 22)]


@pytest.mark.usefixtures("in_process")
def test_two_checkpoints_are_enough_for_every_rollback(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice, the newest checkpoint may hold the bad update."""
    with pytest.raises(ValueError, match=r"keep_last\n.* greater than or equal to 2"):
        tiny(keep_last=1)
    monkeypatch.setattr(Pretraining, "held_out_rows", lambda _: np.zeros((0, 17), np.int64))
    poison(monkeypatch, {7, 17})  # the second: step 16 of the rollback, whose checkpoint has it
    model = build(tokens, tmp_path, replace_fields(CONFIG, keep_last=2))
    first, second = json.loads(model.read("logs/rollbacks.json"))
    assert (first["from_step"], first["bad_step"], first["skipped_steps"]) == (4, 9, [7, 9])
    assert (second["number"], second["from_step"], second["bad_step"]) == (2, 12, 17)


@pytest.mark.usefixtures("in_process")
def test_a_second_rollback_starts_from_the_last_good_checkpoint(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, {13, 15})  # the second before the rollback's own first checkpoint
    model = build(tokens, tmp_path, CONFIG)
    first, second = json.loads(model.read("logs/rollbacks.json"))
    assert (first["from_step"], first["skip"]) == (12, [[13, 15]])
    assert (second["from_step"], second["skip"]) == (12, [[13, 17]])
    assert [item["step"] for item in record(model, "attempts.jsonl")] == [0, 12, 12]
    assert {"logs/diverged-1/metrics.jsonl", "logs/diverged-2/metrics.jsonl"} <= set(
        model.manifest.files
    )


@pytest.mark.usefixtures("in_process")
def test_without_a_good_checkpoint_a_rollback_starts_anew(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = poison(monkeypatch, {1})
    model = build(tokens, tmp_path, CONFIG)
    assert json.loads(model.read("logs/rollbacks.json"))[0]["from_step"] is None
    assert loaded[3:6] == [0, 3, 4]


def test_an_exhausted_loss_scale_names_the_first_step_that_overflowed() -> None:
    exhausted = [False]
    detector = LossSpikeDetector(None, lambda: None, check_norms=lambda: exhausted[0])
    history = [(2.0, 1.0), (2.0, math.inf), (2.0, 1.0), (2.0, math.inf)]
    detector.on_metrics({"step": 4}, history)
    detector.on_metrics({"step": 8}, [(2.0, math.nan)] * 4)
    exhausted[0] = True
    with pytest.raises(LossDivergedError) as ended:
        detector.on_metrics({"step": 9}, [(2.0, math.nan)])
    assert (ended.value.first_bad_step, ended.value.step) == (3, 9)
    assert "gradient" in str(ended.value)


DIVERGENCE: Mapping[str, Any] = {
    "first_bad_step": 9, "step": 10, "kind": "spike", "loss": math.inf
}  # fmt: skip


def training_run(folder: Path, checkpoints: Mapping[int, list[list[int]]]) -> TrainingRun:
    """A run with a log and checkpoints of these steps, made with these skipped batches."""
    run = TrainingRun(TrainJob(CONFIG, 1, Storage(str(folder)), folder))
    for name in ("attempts.jsonl", "metrics.jsonl"):
        (folder / name).touch()
    for step, skip in checkpoints.items():
        target = run.checkpoints.subdir(checkpoint_name(step))
        write_marker(Checkpoint(target, step, 1, {}, {"skip": skip}))
    return run


def test_a_rollback_discards_the_later_checkpoints_of_the_run_that_diverged(
    tmp_path: Path,
) -> None:
    run = training_run(tmp_path, {4: [], 8: [], 12: []})
    first = next_rollback([], DIVERGENCE, run.last_good_step(8))
    assert (first.from_step, first.skip) == (8, ((8, 10),))
    job = run.next_job([first])
    assert job.skip == first.skip
    assert [item.step for item in list_complete(run.checkpoints)] == [4, 8]

    run = training_run(tmp_path, {12: [[8, 10]], 16: [[8, 10]]})  # trained after the rollback
    run.next_job([first])
    assert [item.step for item in list_complete(run.checkpoints)] == [4, 8, 12, 16]
    assert [run.last_good_step(step) for step in (17, 15, 7, 3)] == [16, 12, 4, None]

    divergence = {**DIVERGENCE, "first_bad_step": 3, "step": 20}
    second = next_rollback([first], divergence, run.last_good_step(2))
    assert (second.number, second.from_step) == (2, None)
    run.next_job([first, second])
    assert list_complete(run.checkpoints) == []


@pytest.mark.usefixtures("in_process")
def test_too_many_rollbacks_end_the_run_with_a_list_of_them(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, set(range(6, 99)))
    config = replace_fields(CONFIG, max_rollbacks=2)
    for _ in range(2):  # the second time, nothing is trained
        with pytest.raises(
            TrainingConfigError, match=r"training tiny: .* step 8.*rollback 1 .*rollback 2"
        ):
            build(tokens, tmp_path, config)
        monkeypatch.setattr(launching, "torchrun", None)


@pytest.mark.usefixtures("in_process")
def test_a_crash_after_a_rollback_resumes_the_rollback(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = poison(monkeypatch, {13})
    real, calls = launching.torchrun, []

    def crash(*args: Any) -> int:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(launching, "torchrun", crash)
    with pytest.raises(KeyboardInterrupt):
        build(tokens, tmp_path, CONFIG)
    loaded.clear()
    model = build(tokens, tmp_path, CONFIG)
    assert loaded == [12, *range(15, 22)]
    assert model.stats["skip"] == [[13, 15]]


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 5)), max_size=4),
    st.integers(0, 40),
    st.integers(1, 10),
)
def test_a_rollback_never_trains_on_the_bad_batches_again(
    skipped: list[tuple[int, int]], first: int, length: int
) -> None:
    before = Rollback(1, None, 1, (0, 1), "spike", "9.0", tuple((a, a + n) for a, n in skipped))
    divergence: Mapping[str, Any] = {
        "first_bad_step": first, "step": first + length, "kind": "spike", "loss": 9.0
    }  # fmt: skip
    after = next_rollback([before], divergence, None)
    bad = {batch_for_step(step, before.skip) for step in range(max(0, first - 1), first + length)}
    trained_before = {batch_for_step(step, before.skip) for step in range(99)}
    trained_after = {batch_for_step(step, after.skip) for step in range(99)}
    assert not bad & trained_after
    assert {batch for batch in trained_before - bad if batch < max(trained_after)} <= trained_after
    assert all(
        batch_for_step(s, before.skip) == batch_for_step(s, after.skip) for s in range(first - 1)
    )


def test_rollbacks_are_read_as_they_were_written(tmp_path: Path) -> None:
    run = training_run(tmp_path, {})
    assert run.load_rollbacks() == []
    first = next_rollback([], DIVERGENCE, 4)
    run.record_rollback([first])
    assert run.load_rollbacks() == [first]


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of attempts."""
    clock = [100.0]
    monkeypatch.setattr("lm.metrics.goodput.time.time", lambda: clock[0])
    return clock


def test_goodput_counts_time_over_restarts(tmp_path: Path, now: list[float]) -> None:

    def log(lines: list[tuple[int, float]], **more: float) -> None:
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.writelines(
                json.dumps({"step": step, "clock": clock, **more}) + "\n" for step, clock in lines
            )

    assert summarize_goodput(tmp_path) == {}
    record_attempt(tmp_path, 0, 2)
    log([(1, 110.0), (2, 120.0), (3, 130.0)], compile_seconds=5.0)
    now[0] = 150.0  # 20 s down, 10 s of work lost
    record_attempt(tmp_path, 2, 1)
    (tmp_path / "metrics.jsonl").write_text("")
    log([(1, 110.0), (2, 120.0)], compile_seconds=5.0)
    now[0] = 157.0  # killed before its first line: what its 7 s were spent on is unknown
    record_attempt(tmp_path, 2, 1)
    log([(3, 167.0), (4, 177.0)], validation_seconds=1.0, checkpoint_seconds=0.5)
    summary = summarize_goodput(tmp_path)
    assert summary == {
        "compile_seconds": 5.0,
        "validation_seconds": 2.0,
        "checkpoint_seconds": 1.0,
        "replayed_seconds": 10.0,
        "restart_seconds": 27.0,
        "goodput": pytest.approx(1 - 45 / 82),
    }
    replayed = [item["replayed_steps"] for item in read_jsonl(tmp_path / "attempts.jsonl")]
    assert replayed == [0, 1, 0]


def test_the_compile_time_of_a_second_attempt_is_not_counted_twice(
    tmp_path: Path, now: list[float]
) -> None:
    record_attempt(tmp_path, 0, 2)
    now[0] = 130.0  # killed before its first line; the next one compiled for 20 s of these 30
    record_attempt(tmp_path, 0, 2)
    line = {"step": 1, "clock": 150.0, "compile_seconds": 20.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    summary = summarize_goodput(tmp_path)
    assert (summary["compile_seconds"], summary["restart_seconds"]) == (0.0, 30.0)
    assert summary["goodput"] == pytest.approx(20 / 50)


def test_an_attempt_without_steps_counts_in_the_total_time(
    tmp_path: Path, now: list[float]
) -> None:
    record_attempt(tmp_path, 0, 2)
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 9, "clock": 200.0}) + "\n")
    now[0] = 600.0  # killed after its last step, before the model was committed
    record_attempt(tmp_path, 9, 2)
    assert summarize_goodput(tmp_path)["goodput"] == pytest.approx(100 / 500)
