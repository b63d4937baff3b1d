"""A run whose machine is lost resumes on another one from the store of its checkpoints."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from infra.dataset.dataset import Dataset
from infra.store.cache_dir import ENV_VAR
from infra.store.storage import Storage
from lm.checkpoint import marker
from lm.checkpoint.logs import LOG_FILES, restore_logs, save_logs
from lm.config.train import TrainConfig
from lm.metrics.logger import read_jsonl
from tasks.train import task
from tests.lm.corpora import token_shards
from tests.lm.test_rollback import CONFIG, STEPS, build, poison, record
from tests.train_entry import replace_fields


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return token_shards(tmp_path_factory.mktemp("store"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that is lost with a machine."""
    monkeypatch.setenv(ENV_VAR, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=["folder", "remote"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TrainConfig]:
    is_remote = request.param == "remote"
    url = "memory://bucket/running" if is_remote else str(tmp_path / "running")
    yield replace_fields(CONFIG, checkpoint_url=url)
    fsspec.filesystem("memory").store.clear()


def train_and_lose(
    tokens: Dataset, root: Path, config: TrainConfig, cache: Path, patch: pytest.MonkeyPatch
) -> None:
    """Train to the end, and lose the machine before the model is committed."""

    def crash(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with patch.context() as one:
        one.setattr(task, "commit_files", crash)
        with pytest.raises(KeyboardInterrupt):
            build(tokens, root, config)
    shutil.rmtree(cache)


def checkpoints(config: TrainConfig) -> Storage:
    root = Storage(str(config.run.checkpoint_url))
    (name,) = root.list_folders()
    return root.subdir(name)


def steps(model: Dataset, name: str = "metrics.jsonl") -> list[int]:
    return [line["step"] for line in record(model, name)]


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("removed", [0, 2])
def test_another_machine_has_the_whole_log(
    tokens: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: TrainConfig,
    cache: Path,
    removed: int,
) -> None:
    train_and_lose(tokens, tmp_path, config, cache, monkeypatch)
    for item in marker.list_complete(checkpoints(config))[-removed:] if removed else ():
        marker.remove_checkpoint(item.storage)
    model = build(tokens, tmp_path, config)
    assert steps(model) == list(range(1, STEPS + 1))
    assert steps(model, "attempts.jsonl") == [0, STEPS - 4 * removed]
    assert model.stats["steps"] == STEPS
    assert 0 < model.stats["goodput"] < 1
    assert model.stats["compile_seconds"] > 0


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("own", [True, False], ids=["after the rollback", "before the rollback"])
def test_another_machine_resumes_the_rollback(
    tokens: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    config: TrainConfig,
    cache: Path,
    own: bool,
) -> None:
    loaded = poison(monkeypatch, {13})
    train_and_lose(tokens, tmp_path, config, cache, monkeypatch)
    for item in marker.list_complete(checkpoints(config)):
        if item.step > (16 if own else 12):
            marker.remove_checkpoint(item.storage)
    loaded.clear()
    model = build(tokens, tmp_path, config)
    assert loaded == [12, *range(15, 22)][4 if own else 0 :]
    assert steps(model) == list(range(1, STEPS + 1))
    assert steps(model, "diverged-1/metrics.jsonl") == list(range(1, 15))
    # Only a checkpoint that was written after the rollback has its attempt on the lost machine.
    assert steps(model, "attempts.jsonl") == ([0, 12, 16] if own else [0, 12])
    assert (
        record(model, "attempts.jsonl")[1]["replayed_steps"] == 2
    )  # from the log until the rollback
    assert json.loads(model.read("logs/rollbacks.json"))[0]["from_step"] == 12
    assert not Storage(str(config.run.checkpoint_url)).list_folders()


@pytest.mark.usefixtures("in_process")
def test_without_a_log_the_model_is_committed_with_the_last_line(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    config = replace_fields(CONFIG, checkpoint_url=str(tmp_path / "running"))
    monkeypatch.setattr("lm.checkpoint.manager.save_logs", lambda *_: [])
    train_and_lose(tokens, tmp_path, config, cache, monkeypatch)
    model = build(tokens, tmp_path, config)
    assert (steps(model), model.stats["steps"]) == ([], STEPS)
    assert model.stats["tokens_per_second"] > 0


def log(folder: Path, name: str, lines: list[tuple[int, float]]) -> None:
    folder.mkdir(exist_ok=True)
    text = [json.dumps({"step": step, "clock": clock}) + "\n" for step, clock in lines]
    (folder / name).write_text("".join(text))


@pytest.mark.parametrize(
    ("attempts", "lines", "is_restored"),
    [
        (
            [(0, 1.0)],
            [(1, 2.0), (2, 3.0), (3, 4.0)],
            False,
        ),  # it wrote the checkpoint and continued
        ([(0, 1.0), (2, 9.0)], [(1, 2.0), (2, 3.0)], False),
        ([(0, 1.0)], [(1, 2.0)], True),
        ([(0, 1.0)], [(1, 2.0), (2, 8.0), (3, 9.0)], True),  # another machine did step 2
        ([], [(1, 2.0), (2, 3.0)], True),
    ],
)
def test_the_log_of_a_checkpoint_is_restored_unless_this_machine_wrote_it(
    tmp_path: Path,
    attempts: list[tuple[int, float]],
    lines: list[tuple[int, float]],
    is_restored: bool,
) -> None:
    writer, saved, run = tmp_path / "writer", tmp_path / "saved", tmp_path / "run"
    log(writer, "attempts.jsonl", [(0, 1.0)])
    log(writer, "metrics.jsonl", [(1, 2.0), (2, 3.0), (3, 5.0)])  # step 3 came after the checkpoint
    saved.mkdir()
    assert [path.name for path in save_logs(writer, saved)] == list(LOG_FILES)
    log(run, "attempts.jsonl", attempts)
    log(run, "metrics.jsonl", lines)
    restore_logs(saved, run, 2)
    restored = [(line["step"], line["clock"]) for line in read_jsonl(run / "metrics.jsonl")]
    assert restored == ([(1, 2.0), (2, 3.0), (3, 5.0)] if is_restored else lines)
    assert len(read_jsonl(run / "attempts.jsonl")) == (1 if is_restored else len(attempts))
