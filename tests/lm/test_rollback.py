"""What is done about spoilt weights: real training in this process, spoilt on purpose."""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

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
from lm.checkpoint.marker import Checkpoint
from lm.config.train import TrainConfig
from lm.data.loader import DataLoader
from lm.data.shuffle import batch_for_step
from lm.launch import rollback
from lm.launch import torchrun as launching
from lm.launch.rollback_log import Rollback, load_rollbacks, save_rollbacks
from lm.launch.torchrun import TrainingConfigError
from lm.metrics.goodput import record_attempt, summarize_goodput
from lm.metrics.logger import read_jsonl
from lm.train import worker
from lm.train.callbacks.loss_spike import LossDivergedError, LossSpikeDetector
from lm.train.job import TrainJob
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


class Listener:
    """Keeps what a run says."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def update(self, progress: Progress) -> None:
        self.notes.append(progress.message)

    def link(self, name: str, url: str) -> None:
        pass


def poison(monkeypatch: pytest.MonkeyPatch, bad: set[int]) -> list[int]:
    """Batches that make the learning rate infinite; returns those that were served."""
    served, batch, rate = poisoned(bad)
    monkeypatch.setattr(DataLoader, "batch", batch)
    monkeypatch.setattr("lm.train.loop.learning_rate", rate)
    return served


def build(
    tokens: Dataset, root: Path, config: TrainConfig, listener: Listener | None = None
) -> Dataset:
    ctx = context(root / "models", listener or Listener())
    return task.build(
        ctx, task.spec(ctx, config=config, tokens=tokens), config=config, tokens=tokens
    )


def record(made: Dataset, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in made.read(f"logs/{name}").decode().splitlines()]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv(ENV_VAR, str(tmp_path / "cache"))
    return tmp_path / "cache"  # type: ignore[return-value]


@pytest.mark.usefixtures("in_process")
def test_a_bad_batch_is_left_out_by_a_branch_and_both_are_kept(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = poison(monkeypatch, {13})
    listener = Listener()
    made = build(tokens, tmp_path, CONFIG, listener)
    assert made.stats["skip"] == [[13, 15]]
    assert served[15:] == [12, *range(15, 22)]  # from the checkpoint of step 12
    (branch,) = json.loads(made.read("logs/rollbacks.json"))
    assert (branch["number"], branch["parent"], branch["from_step"]) == (1, 0, 12)
    assert branch["spike_step"] == 15
    assert (branch["skipped_steps"], branch["kind"], branch["loss"]) == (
        [13, 15],
        "not_finite",
        "nan",
    )
    told = (
        "the loss was no number in step 15 of rollback-0: rollback-1 goes on from the checkpoint of "
        "step 12 without the batches 13 to 14"
    )
    assert told in listener.notes
    lines, abandoned = record(made, "metrics.jsonl"), record(made, "rollback-0/metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert [line["step"] for line in abandoned] == list(range(1, 15))
    assert lines[:12] == abandoned[:12]
    (drawn,) = (name for name in made.manifest.files if name.startswith("logs/tensorboard/"))
    shown = EventAccumulator(str(made.storage.local_path(made.manifest.files[drawn].name)))
    shown.Reload()
    assert [item.step for item in shown.Scalars("loss")] == list(range(1, STEPS + 1))
    assert all(math.isfinite(line["loss"]) for line in lines)
    assert [item["step"] for item in record(made, "attempts.jsonl")] == [0, 12]
    assert made.stats["replayed_seconds"] > 0
    assert 0 < made.stats["goodput"] < 1
    assert not list((tmp_path / "cache" / "train").glob("*rollback*"))

    # The branch is the run that never saw those batches.
    served.clear()
    folder = tmp_path / "never"
    result = worker.run_attempt(TrainJob(CONFIG, 1337, tokens.storage, folder, skip=((13, 15),)))
    assert result["line"]["step"] == STEPS
    whole = load_file(folder / "model.safetensors")
    mine = load_file(str(made.storage.local_path(made.manifest.files["model.safetensors"].name)))
    assert all(torch.equal(whole[name], mine[name]) for name in whole)


@pytest.mark.usefixtures("in_process")
def test_a_checkpoint_that_may_hold_the_bad_update_is_not_begun_from(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The update of batch 11 spoils the weights that the checkpoint of step 12 then holds."""
    monkeypatch.setattr("lm.train.loop.validation_rows_for", lambda *_: torch.zeros(0, 17).long())
    served = poison(monkeypatch, {11})
    made = build(tokens, tmp_path, CONFIG)
    (branch,) = json.loads(made.read("logs/rollbacks.json"))
    assert (branch["from_step"], branch["spike_step"], branch["skipped_steps"]) == (8, 13, [11, 13])
    assert served[13:] == [8, 9, 10, *range(13, 22)]


@pytest.mark.usefixtures("in_process")
def test_the_fewest_checkpoints_are_enough_for_each_branch(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice it is the newest checkpoint that may hold the bad update."""
    with pytest.raises(ValueError, match=r"keep_last\n.* greater than or equal to 2"):
        tiny(keep_last=1)
    monkeypatch.setattr("lm.train.loop.validation_rows_for", lambda *_: torch.zeros(0, 17).long())
    poison(monkeypatch, {7, 17})  # the second: step 16 of the branch, whose checkpoint has it
    made = build(tokens, tmp_path, replace_fields(CONFIG, keep_last=2))
    first, second = json.loads(made.read("logs/rollbacks.json"))
    assert (first["from_step"], first["spike_step"], first["skipped_steps"]) == (4, 9, [7, 9])
    assert (second["parent"], second["from_step"], second["spike_step"]) == (1, 12, 17)


@pytest.mark.usefixtures("in_process")
def test_a_branch_of_a_branch_begins_where_the_last_good_checkpoint_is(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, {13, 15})  # the second before the branch's own first checkpoint
    made = build(tokens, tmp_path, CONFIG)
    first, second = json.loads(made.read("logs/rollbacks.json"))
    assert (first["from_step"], first["skip"]) == (12, [[13, 15]])
    assert (second["parent"], second["from_step"], second["skip"]) == (1, 12, [[13, 17]])
    assert [item["step"] for item in record(made, "attempts.jsonl")] == [0, 12, 12]
    assert {"logs/rollback-0/metrics.jsonl", "logs/rollback-1/metrics.jsonl"} <= set(
        made.manifest.files
    )


@pytest.mark.usefixtures("in_process")
def test_without_a_good_checkpoint_it_begins_anew(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = poison(monkeypatch, {1})
    made = build(tokens, tmp_path, CONFIG)
    assert json.loads(made.read("logs/rollbacks.json"))[0]["from_step"] is None
    assert served[3:6] == [0, 3, 4]


def test_a_scale_that_has_fallen_for_steps_blames_the_first_of_them() -> None:
    exhausted = [False]
    detector = LossSpikeDetector(None, lambda: None, check_norms=lambda: exhausted[0])
    history = [(2.0, 1.0), (2.0, math.inf), (2.0, 1.0), (2.0, math.inf)]
    detector.on_metrics({"step": 4}, history)
    detector.on_metrics({"step": 8}, [(2.0, math.nan)] * 4)
    exhausted[0] = True
    with pytest.raises(LossDivergedError) as ended:
        detector.on_metrics({"step": 9}, [(2.0, math.nan)])
    assert (ended.value.first_bad_step, ended.value.step) == (3, 9)
    assert str(ended.value).startswith("the gradient was no number in step 4 (found after step 9")


def test_a_branch_that_is_spoilt_at_once_goes_back_before_its_beginning(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {0: [4, 8, 12], 1: [16], 2: list[int]()}
    store = Storage(str(tmp_path))

    def complete(_: rollback.TrainingRun, branch: Rollback) -> list[Checkpoint]:
        return [Checkpoint(store, step, 1, {}, {}) for step in made[branch.number]]

    monkeypatch.setattr(rollback.TrainingRun, "list_complete", complete)
    trunk = rollback.TrainingRun(TrainJob(CONFIG, 1, store, tmp_path))
    first = Rollback(1, parent=0, from_step=8)
    branches = [Rollback(), first, Rollback(2, parent=1, from_step=16)]
    assert trunk.last_good_step(branches, 17) == 16
    assert trunk.last_good_step(branches, 15) == 8  # not 12: the trunk was left at 8
    assert trunk.last_good_step(branches, 7) == 4
    assert trunk.last_good_step(branches, 3) is None


@pytest.mark.usefixtures("in_process")
def test_too_many_branches_end_the_run_with_the_story(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, set(range(6, 99)))
    config = replace_fields(CONFIG, max_rollbacks=2)
    told = (
        r"training tiny: the loss was no number in step 8, after 2 of 2 branches \(the loss was .* "
        r"of rollback-0: rollback-1 goes on .*; .* of rollback-1: rollback-2 goes on .*\); lower"
    )
    for _ in range(2):  # the second time nothing is trained to find that out again
        with pytest.raises(TrainingConfigError, match=told):
            build(tokens, tmp_path, config)
        monkeypatch.setattr(launching, "torchrun", None)
    monkeypatch.setattr(rollback, "launch", lambda *_, **__: pytest.fail("no other branch"))


@pytest.mark.usefixtures("in_process")
def test_a_crash_after_a_branch_was_opened_goes_on_in_the_branch(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = poison(monkeypatch, {13})
    real, calls = launching.torchrun, []

    def crash(*given: Any, **named: Any) -> int:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*given, **named)

    monkeypatch.setattr(launching, "torchrun", crash)
    with pytest.raises(KeyboardInterrupt):
        build(tokens, tmp_path, CONFIG)
    served.clear()
    made = build(tokens, tmp_path, CONFIG)
    assert served == [12, *range(15, 22)]
    assert made.stats["skip"] == [[13, 15]]


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 5)), max_size=4),
    st.integers(0, 40),
    st.integers(1, 10),
)
def test_a_branch_never_sees_the_bad_batches_again(
    skipped: list[tuple[int, int]], first: int, length: int
) -> None:
    before = Rollback(skip=tuple((a, a + n) for a, n in skipped))
    spoilt: Mapping[str, Any] = {
        "first_bad_step": first, "step": first + length, "kind": "spike", "loss": 9.0
    }  # fmt: skip
    after = before.next_rollback(spoilt, None)
    bad = {batch_for_step(step, before.skip) for step in range(max(0, first - 1), first + length)}
    was = {batch_for_step(step, before.skip) for step in range(99)}
    now = {batch_for_step(step, after.skip) for step in range(99)}
    assert not bad & now
    assert {batch for batch in was - bad if batch < max(now)} <= now
    assert all(
        batch_for_step(s, before.skip) == batch_for_step(s, after.skip) for s in range(first - 1)
    )


def test_branches_are_read_as_they_were_written(tmp_path: Path) -> None:
    store = Storage(str(tmp_path / "run" / "checkpoints"))
    assert load_rollbacks(store) == [Rollback()]
    spoilt = {"first_bad_step": 5, "step": 8, "kind": "spike", "loss": math.inf}
    first = Rollback().next_rollback(spoilt, 4)
    save_rollbacks(store, [Rollback(), first])
    assert load_rollbacks(store) == [Rollback(), first]


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock that attempts are noted by."""
    clock = [100.0]
    monkeypatch.setattr("lm.metrics.goodput.time.time", lambda: clock[0])
    return clock


def test_time_is_accounted_for_over_restarts(tmp_path: Path, now: list[float]) -> None:

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
    now[0] = 157.0  # killed before its first line: nothing is known of its 7 s but that they passed
    record_attempt(tmp_path, 2, 1)
    log([(3, 167.0), (4, 177.0)], validation_seconds=1.0, checkpoint_seconds=0.5)
    found = summarize_goodput(tmp_path)
    assert found == {
        "compile_seconds": 5.0,
        "validation_seconds": 2.0,
        "checkpoint_seconds": 1.0,
        "replayed_seconds": 10.0,
        "restart_seconds": 27.0,
        "goodput": pytest.approx(1 - 45 / 82),
    }
    replayed = [item["replayed_steps"] for item in read_jsonl(tmp_path / "attempts.jsonl")]
    assert replayed == [0, 1, 0]


def test_what_the_second_attempt_compiled_is_not_counted_twice(
    tmp_path: Path, now: list[float]
) -> None:
    record_attempt(tmp_path, 0, 2)
    now[0] = 130.0  # killed before its first line; the next one compiled for 20 s of these 30
    record_attempt(tmp_path, 0, 2)
    line = {"step": 1, "clock": 150.0, "compile_seconds": 20.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    found = summarize_goodput(tmp_path)
    assert (found["compile_seconds"], found["restart_seconds"]) == (0.0, 30.0)
    assert found["goodput"] == pytest.approx(20 / 50)


def test_an_attempt_that_finds_nothing_to_do_is_part_of_the_whole(
    tmp_path: Path, now: list[float]
) -> None:
    record_attempt(tmp_path, 0, 2)
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 9, "clock": 200.0}) + "\n")
    now[0] = 600.0  # killed after its last step, before the model was committed
    record_attempt(tmp_path, 9, 2)
    assert summarize_goodput(tmp_path)["goodput"] == pytest.approx(100 / 500)
