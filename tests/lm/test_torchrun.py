"""Real processes that are killed."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file

from infra.compute.progress import Progress
from infra.dataset.dataset import Dataset, open_dataset
from infra.store.cache_dir import ENV_VAR
from lm.config.train import TrainConfig
from lm.data.sampler import steps_containing
from lm.data.shuffle import ShuffleOrder
from lm.launch import rollback
from lm.launch.torchrun import TrainingFailedError, launch
from lm.launch.work_folder import work_folder
from lm.metrics.logger import read_jsonl
from lm.train.job import TrainJob
from lm.train.loop import train
from tasks.train import task
from tests.limits import WAIT_TIMEOUT_S, wait_for
from tests.lm.corpora import context, splits, tiny, token_shards
from tests.processes import ROOT, process_tree
from tests.train_entry import replace_fields

pytestmark = pytest.mark.e2e

STEPS = 40
TWO = tiny(num_processes=2, train_tokens=STEPS * 128, checkpoint_interval=10, max_restarts=1)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return token_shards(tmp_path_factory.mktemp("store"))


def run(
    tokens: Dataset,
    folder: Path,
    config: TrainConfig = TWO,
    on_metrics: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, torch.Tensor]:
    launch(TrainJob(config, 1337, tokens.storage, folder), on_metrics)
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def uninterrupted(
    tokens: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    return run(tokens, folder), read_jsonl(folder / "metrics.jsonl")


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def workers(root: int) -> list[psutil.Process]:
    """The training processes that descend from a process."""
    below = psutil.Process(root).children(recursive=True)
    return [
        p for p in below if "lm.train.worker" in p.cmdline() and "--standalone" not in p.cmdline()
    ]


def test_two_processes_learn_what_one_does(
    tokens: Dataset,
    uninterrupted: tuple[dict[str, torch.Tensor], list[dict[str, Any]]],
    tmp_path: Path,
) -> None:
    train(TrainJob(tiny(train_tokens=STEPS * 128), 1337, tokens.storage, tmp_path))
    alone, pair = read_jsonl(tmp_path / "metrics.jsonl"), uninterrupted[1]
    assert len(pair) == STEPS
    for one, two in zip(alone, pair, strict=True):
        assert two["rows_digest"] == one["rows_digest"]
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert pair[-1]["validation_loss"] == pytest.approx(alone[-1]["validation_loss"], rel=1e-5)


def run_and_kill(
    tokens: Dataset, folder: Path, victim: Callable[[], psutil.Process]
) -> dict[str, torch.Tensor]:
    """Kill something after step 15, once; returns the weights of the run."""
    killed: list[psutil.Process] = []

    def kill(line: dict[str, Any]) -> None:
        if line["step"] == 15 and not killed:
            killed.append(victim())
            killed[0].kill()

    weights = run(tokens, folder, on_metrics=kill)
    assert killed
    return weights


def test_a_killed_process_costs_no_more_than_the_steps_since_the_checkpoint(
    tokens: Dataset,
    uninterrupted: tuple[dict[str, torch.Tensor], list[dict[str, Any]]],
    tmp_path: Path,
) -> None:
    weights = run_and_kill(tokens, tmp_path, lambda: workers(os.getpid())[1])
    assert equal(weights, uninterrupted[0])
    lines = read_jsonl(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    assert [x["loss"] for x in lines] == [x["loss"] for x in uninterrupted[1]]


def test_a_killed_torchrun_is_started_again(
    tokens: Dataset,
    uninterrupted: tuple[dict[str, torch.Tensor], list[dict[str, Any]]],
    tmp_path: Path,
) -> None:
    def torchrun() -> psutil.Process:
        process = workers(os.getpid())[0].parent()
        assert process is not None
        return process

    weights = run_and_kill(tokens, tmp_path, torchrun)
    assert equal(weights, uninterrupted[0])
    assert len(read_jsonl(tmp_path / "attempts.jsonl")) == 2


def test_a_killed_launcher_leaves_no_process_and_the_next_one_resumes(
    tokens: Dataset,
    uninterrupted: tuple[dict[str, torch.Tensor], list[dict[str, Any]]],
    tmp_path: Path,
) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from infra.store.storage import Storage\n"
        "from tests.lm.test_torchrun import TWO, TrainJob, launch\n"
        "job = TrainJob(TWO, 1337, Storage(sys.argv[1]), Path(sys.argv[2]))\n"
        "launch(job, lambda line: None)\n"
    )
    command = [sys.executable, "-c", script, tokens.storage.url, str(tmp_path)]
    with process_tree(command, cwd=ROOT) as launcher:
        wait_for(lambda: any((tmp_path / "checkpoints").glob("*/complete.json")), launcher)
        assert len(launcher.members()) == 4  # with torchrun and two processes
        launcher.kill()
        wait_for(lambda: not launcher.members())

    steps: list[int] = []
    weights = run(tokens, tmp_path, on_metrics=lambda line: steps.append(line["step"]))
    assert steps[0] in range(11, STEPS, 10)
    assert equal(weights, uninterrupted[0])


def test_a_canceled_run_leaves_no_process(tokens: Dataset, tmp_path: Path) -> None:
    class Canceled(BaseException):
        pass

    family: list[psutil.Process] = []
    others = set(psutil.Process().children(recursive=True))  # servers of other tests

    def cancel(line: dict[str, Any]) -> None:
        family.extend(set(psutil.Process().children(recursive=True)) - others)
        raise Canceled

    with pytest.raises(Canceled):
        run(tokens, tmp_path, on_metrics=cancel)
    assert len(family) == 3
    _, alive = psutil.wait_procs(family, timeout=WAIT_TIMEOUT_S)
    assert not alive


def test_a_run_that_keeps_crashing_ends_with_its_last_output(
    tokens: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "metrics.jsonl").mkdir()  # the log cannot be written
    with pytest.raises(TrainingFailedError, match=r"ended with status 1:(.|\n)*IsADirectoryError"):
        run(tokens, tmp_path, tiny(max_restarts=0))


def test_the_stage_commits_a_model(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV_VAR, str(tmp_path / "cache"))
    updates: list[Progress] = []

    class Recorder:
        def update(self, progress: Progress) -> None:
            updates.append(progress)

        def link(self, name: str, url: str) -> None:
            pass

    ctx, config = context(tmp_path / "store", Recorder()), tiny()
    spec = task.spec(ctx, config=config, tokens=tokens)
    model = task.build(ctx, spec, config=config, tokens=tokens)
    assert open_dataset(model.storage).content == model.content
    assert model.counts.n_in == model.counts.kept == tokens.stats["documents"]["train"]
    assert model.stats["parameters"] == 300 * 32 + 2 * (32 * 64 + 32 * 32 + 3 * 32 * 96 + 64) + 32
    assert model.stats["steps"] == 10
    assert model.stats["validation_loss"] < 5.7
    names = set(model.manifest.files)
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= names
    assert {"logs/metrics.jsonl", "logs/step-000000010/complete.json"} <= names
    assert not work_folder(spec).exists()
    assert updates[-1].completed == updates[-1].total == 10
    assert updates[-1].values is not None
    assert updates[-1].values["loss"] == model.stats["loss"]
    training, _ = splits(tokens)
    order = ShuffleOrder(1337, model.stats["rows_per_epoch"])
    windows_of_step = [
        set(order.rows_at(np.arange(step * 8, step * 8 + 8)).tolist()) for step in range(10)
    ]
    first, end = training.document_range(5)
    # A window's row holds its own 16 tokens and the next one, the last target.
    expected = [
        step
        for step, windows in enumerate(windows_of_step)
        if any(w * 16 < end and first < w * 16 + 17 for w in windows)
    ]
    assert steps_containing(model, first, end) == expected
    operational = replace_fields(config, log_interval=3, keep_last=7, checkpoint_interval=2)
    assert task.spec(ctx, config=operational, tokens=tokens).fingerprint == spec.fingerprint


def test_two_runs_of_one_model_wait_for_each_other(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV_VAR, str(tmp_path / "cache"))
    ctx, config = context(tmp_path / "store"), tiny()
    spec = task.spec(ctx, config=config, tokens=tokens)
    launched = []

    def slow(job: TrainJob, *_: Any) -> dict[str, Any]:
        folder = job.folder
        launched.append(folder)
        time.sleep(0.5)
        line = {"step": 10, "tokens": 1280, "loss": 4.0, "tokens_per_second": 1.0, "mfu": 0.1}
        (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        own = ("model.safetensors", "reference_logits.safetensors", "config.json")
        for name in (*own, "tensorboard/events", "attempts.jsonl"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"")
        return {"line": line, "parameters": 1, "training_tokens": 1, "flops_per_token": 6.0}

    monkeypatch.setattr(rollback, "launch", slow)
    model: list[Dataset] = []
    threads = [
        threading.Thread(
            target=lambda: model.append(task.build(ctx, spec, config=config, tokens=tokens))
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(launched) == 1
    assert model[0].content == model[1].content
    assert not launched[0].exists(), "neither of them may leave a folder"
