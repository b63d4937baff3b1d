"""Asynchronous checkpoints of one process; several are in test_torchrun."""

import errno
import os
import random
import resource
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from torch import nn
from torch.distributed import destroy_process_group, init_process_group
from torch.distributed.checkpoint import state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from infra.store.storage import Storage
from lm.checkpoint import manager, marker, shard_io
from lm.checkpoint.manager import CheckpointManager
from lm.checkpoint.marker import MARKER, CheckpointMismatchError, CheckpointStore
from lm.checkpoint.shard_io import CheckpointSaveError, RankFailedError
from tests.limits import WAIT_TIMEOUT_S
from tests.lm.group import run_in_processes

KEY = {"shards": "abc", "tokenizer": "t", "width": 32}


class Run:
    """A model that trains and can be saved."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(8, 8)
        self.optimizer = torch.optim.AdamW(self.model.parameters())

    def step(self) -> None:
        self.model(torch.ones(2, 8)).square().sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        weights, moments = get_state_dict(self.model, self.optimizer)
        return {"model": weights, "optimizer": moments}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        set_state_dict(
            self.model,
            self.optimizer,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
        )

    def weights(self) -> torch.Tensor:
        return self.model.weight.detach().clone()


@pytest.fixture(params=["local", "elsewhere"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param == "local":
        yield Storage(str(tmp_path / "checkpoints"))
        return
    yield Storage("memory://bucket/checkpoints")
    fsspec.filesystem("memory").store.clear()


def checkpoint_store(store: Storage, tmp_path: Path, **changes: Any) -> CheckpointStore:
    return CheckpointStore(store, tmp_path, **{"timeout_s": 0.0, **changes})


def saved_twice(run: Run, saver: CheckpointManager) -> torch.Tensor:
    """Save after one step and after two; returns the weights after one."""
    run.step()
    first = run.weights()
    saver.save(1, run, {})
    run.step()
    saver.save(2, run, {}, wait=True)
    saver.wait()
    return first


def steps(store: Storage) -> list[int]:
    return [item.step for item in marker.list_complete(store)]


def test_a_saved_state_is_restored_completely(store: Storage, tmp_path: Path) -> None:
    run = Run()
    saver = CheckpointManager(checkpoint_store(store, tmp_path), KEY)
    assert saver.restore(run) is None
    run.step()
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 - the generator that others draw from
    saver.save(1, run, {"loss": 2.5})
    saver.wait()
    assert saver.latest_step == 1
    numbers = [torch.rand(3).tolist(), random.random(), np.random.rand()]  # noqa: NPY002
    run.step()
    expected = run.weights()

    again = Run()
    checkpoint = CheckpointManager(checkpoint_store(store, tmp_path), KEY).restore(again)
    assert checkpoint is not None
    assert (checkpoint.step, checkpoint.metadata, checkpoint.name) == (
        1,
        {"loss": 2.5},
        "step-000000001",
    )
    assert [torch.rand(3).tolist(), random.random(), np.random.rand()] == numbers  # noqa: NPY002
    again.step()
    assert torch.equal(again.weights(), expected)


@pytest.fixture
def may_write(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """An event that writing waits for."""
    event = threading.Event()
    real = state_dict_saver.save

    def slow(*args: Any, **kwargs: Any) -> Any:
        event.wait(WAIT_TIMEOUT_S)
        return real(*args, **kwargs)

    monkeypatch.setattr(shard_io, "save", slow)
    return event


def test_later_steps_do_not_change_a_checkpoint_that_is_being_written(
    store: Storage, tmp_path: Path, may_write: threading.Event
) -> None:
    """``torch.distributed.checkpoint.async_save`` fails here (pytorch#144657)."""
    run = Run()
    saver = CheckpointManager(checkpoint_store(store, tmp_path), KEY)
    for step in (1, 2):  # the second time, the buffers exist
        run.step()
        saved = run.weights()
        may_write.clear()
        saver.save(step, run, {}, wait=True)
        run.step()
        may_write.set()
        saver.wait()
        again = Run()
        CheckpointManager(checkpoint_store(store, tmp_path), KEY).restore(again)
        assert torch.equal(again.weights(), saved)


def test_a_save_is_skipped_while_the_previous_one_is_written_unless_it_must_wait(
    store: Storage, tmp_path: Path, may_write: threading.Event
) -> None:
    run, saver = Run(), CheckpointManager(checkpoint_store(store, tmp_path), KEY)
    assert saver.save(1, run, {})
    assert not saver.save(2, run, {})
    assert saver.latest_step is None
    threading.Timer(0.1, may_write.set).start()
    assert saver.save(3, run, {}, wait=True)
    saver.wait()
    assert steps(store) == [1, 3]


@pytest.mark.parametrize(
    ("step", "seconds", "min_wait", "waits"),
    [(2, 0.0, 0.1, 0.1), (2, 0.2, 0.1, 0.2), (4, 0.0, 0.1, None)],
    ids=["a short step", "a long step", "one that is kept"],
)
def test_a_save_waits_for_the_previous_one_as_long_as_a_step_takes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    may_write: threading.Event,
    step: int,
    seconds: float,
    min_wait: float,
    waits: float | None,
) -> None:
    monkeypatch.setattr(manager, "MIN_WAIT_S", min_wait)
    store = Storage(str(tmp_path / "checkpoints"))
    run, saver = Run(), CheckpointManager(checkpoint_store(store, tmp_path, keep_interval=4), KEY)
    saver.save(1, run, {})
    if waits is None:
        threading.Timer(0.3, may_write.set).start()
    start = time.monotonic()
    assert saver.save(step, run, {}, seconds) == (waits is None)
    if waits is None:
        assert may_write.is_set()
    else:
        assert time.monotonic() - start >= waits
    may_write.set()
    saver.wait()
    assert steps(store) == ([1, step] if waits is None else [1])


def test_the_newest_and_those_of_the_interval_are_kept(store: Storage, tmp_path: Path) -> None:
    run, saver = (
        Run(),
        CheckpointManager(checkpoint_store(store, tmp_path, keep_last=2, keep_interval=4), KEY),
    )
    for step in range(1, 10):
        saver.save(step, run, {}, wait=True)
    saver.wait()
    assert steps(store) == [4, 8, 9]
    assert store.list_folders() == [marker.checkpoint_name(step) for step in (4, 8, 9)]


def test_a_save_lists_the_existing_checkpoints_once(
    store: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[str] = []
    real = marker.list_complete

    def list_complete(root: Storage) -> list[marker.Checkpoint]:
        listed.append(root.url)
        return real(root)

    monkeypatch.setattr(marker, "list_complete", list_complete)
    run, saver = Run(), CheckpointManager(checkpoint_store(store, tmp_path, keep_last=1), KEY)
    for step in (1, 2, 3):
        saver.save(step, run, {}, wait=True)
    saver.wait()
    assert listed == [store.url] * 3
    assert store.list_folders() == [marker.checkpoint_name(3)]


@pytest.mark.parametrize("damage", ["no marker", "a short shard", "a missing shard"])
def test_a_damaged_checkpoint_is_never_read_and_the_next_save_removes_it(
    store: Storage, tmp_path: Path, damage: str
) -> None:
    run, saver = Run(), CheckpointManager(checkpoint_store(store, tmp_path), KEY)
    first = saved_twice(run, saver)
    newest = store.subdir(marker.checkpoint_name(2))
    shard = next(name for name in newest.list_files() if name.endswith(".distcp"))
    if damage == "no marker":
        newest.remove(MARKER)
    elif damage == "a short shard":
        newest.write(shard, newest.read(shard)[:-1])
    else:
        newest.remove(shard)
    again = Run()
    checkpoint = CheckpointManager(checkpoint_store(store, tmp_path), KEY).restore(again)
    assert checkpoint is not None
    assert checkpoint.step == 1
    assert torch.equal(again.weights(), first)
    saver.save(3, run, {}, wait=True)
    saver.wait()
    assert steps(store) == [1, 3]
    assert damage != "no marker" or not newest.list_files()


def test_a_checkpoint_of_another_run_is_refused_with_what_differs(
    store: Storage, tmp_path: Path
) -> None:
    run, saver = Run(), CheckpointManager(checkpoint_store(store, tmp_path), KEY)
    saver.save(1, run, {})
    saver.wait()
    for changes, details in (
        ({"shards": "def"}, r"tokens: .*shards = 'abc', .* 'def'"),
        ({"tokenizer": "u"}, r"tokenizer: .*tokenizer = 't'"),
        ({"width": 64}, r"configuration: .*width = 32, .* 64"),
        ({"shards": "d", "tokenizer": "u"}, r"tokens and .* tokenizer: "),
    ):
        with pytest.raises(CheckpointMismatchError, match=details):
            CheckpointManager(checkpoint_store(store, tmp_path), {**KEY, **changes}).restore(run)


def test_the_next_save_raises_the_error_of_the_previous_one(
    store: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    run, saver = Run(), CheckpointManager(checkpoint_store(store, tmp_path), KEY)
    monkeypatch.setattr(marker, "write_marker", full)
    saver.save(1, run, {})
    with pytest.raises(CheckpointSaveError, match=r"step-000000001.*No space left"):
        saver.save(2, run, {}, wait=True)
    assert steps(store) == []


def limited(rank: int, folder: Path) -> None:
    """Save in one of two processes, of which the second cannot write more than a few bytes."""
    init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    os.environ["LOCAL_RANK"] = str(rank)
    run, saver = (
        Run(),
        CheckpointManager(checkpoint_store(Storage(str(folder / "checkpoints")), folder), KEY),
    )
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if rank == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, before[1]))
    saver.save(1, run, {})
    with pytest.raises(CheckpointSaveError) as caught:
        saver.wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (folder / f"error-{rank}").write_text(str(caught.value))
    destroy_process_group()


def test_all_processes_raise_the_error_of_a_full_disk_and_the_space_is_freed(
    tmp_path: Path,
) -> None:
    run_in_processes(limited, (tmp_path,), 2)
    (message,) = {(tmp_path / f"error-{rank}").read_text() for rank in range(2)}
    folder = tmp_path / "checkpoints" / marker.checkpoint_name(1)
    assert message.startswith(f"{folder}: ")
    assert "process 1: [Errno 27]" in message
    assert not folder.exists()


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_the_error_of_a_full_disk_is_the_operating_systems(tmp_path: Path) -> None:
    """torch's is ``unexpected pos 704 vs 598``."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(CheckpointSaveError, match=r"process 0: \[Errno 27\]"):
            shard_io.write_shards({"a": torch.zeros(1000, 100)}, tmp_path / "half", None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_disk_that_is_full_after_the_shards_is_freed(tmp_path: Path) -> None:
    """The copy of the log does not fit."""
    (tmp_path / "metrics.jsonl").write_bytes(bytes(2 << 20))
    saver = CheckpointManager(
        checkpoint_store(Storage(str(tmp_path / "checkpoints")), tmp_path), KEY
    )
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        saver.save(1, Run(), {})
        with pytest.raises(CheckpointSaveError, match=r"step-000000001.*Errno 27"):
            saver.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "checkpoints" / marker.checkpoint_name(1)).exists()


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_an_error_that_may_pass_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no ``UserError``, so that torchrun starts the processes again."""

    def failing(number: int) -> Callable[..., None]:
        def fail(*_: Any) -> None:
            raise OSError(number, "an error")

        return fail

    with pytest.raises(RankFailedError, match=r"^writing: .*Errno 5.*an error"):
        shard_io.run_on_all_ranks(None, "writing", failing(errno.EIO))
    with pytest.raises(CheckpointSaveError):
        shard_io.run_on_all_ranks(None, "writing", failing(errno.ENOSPC))
    for number, kind in ((errno.EIO, CheckpointException), (errno.EACCES, CheckpointSaveError)):
        monkeypatch.setattr(shard_io.ShardWriter, "write_data", failing(number))
        with pytest.raises(kind):
            shard_io.write_shards({"a": torch.zeros(2)}, tmp_path / "half", None)


def test_uploads_are_retried_while_a_store_is_unreachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.store.retry.MIN_BACKOFF_S", 0.01)
    store = Storage("memory://bucket/unreachable")
    calls, real = [0], Storage.upload

    def upload(self: Storage, local: Path, name: str) -> None:
        calls[0] += 1
        if calls[0] < 5:
            raise ConnectionError("refused")
        real(self, local, name)

    monkeypatch.setattr(Storage, "upload", upload)
    run, saver = Run(), CheckpointManager(checkpoint_store(store, tmp_path, timeout_s=60), KEY)
    saver.save(1, run, {})
    saver.wait()
    assert steps(store) == [1]
    assert calls[0] > 5
    fsspec.filesystem("memory").store.clear()


def test_all_saves_reuse_the_memory_of_one_copy(tmp_path: Path) -> None:
    run, saver = Run(), CheckpointManager(checkpoint_store(Storage(str(tmp_path)), tmp_path), KEY)
    copy: Callable[[Run], dict[str, Any]] = saver._copy
    first, second = (copy(run)["model"]["weight"].data_ptr() for _ in range(2))
    assert first == second != run.model.weight.data_ptr()
