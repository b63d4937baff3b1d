"""Saving while the run goes on, one process; several are in test_launch."""

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
from torch.multiprocessing.spawn import spawn

from infra.store.storage import Storage
from lm.checkpoint import manager, marker, shard_io
from lm.checkpoint.manager import CheckpointManager
from lm.checkpoint.marker import MARKER, CheckpointMismatchError
from lm.checkpoint.retention import CheckpointStore, ResumePoint
from lm.checkpoint.shard_io import CheckpointSaveError, RankFailedError

IDENTITY = {"shards": "abc", "tokenizer": "t", "width": 32}


class Run:
    """Something that learns and can be kept."""

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


def shelf(store: Storage, tmp_path: Path, **changes: Any) -> CheckpointStore:
    return CheckpointStore(store, tmp_path, **{"timeout_s": 0.0, **changes})


def saved_twice(run: Run, mine: CheckpointManager) -> torch.Tensor:
    """Save after one step and after two; returns the weights after one."""
    run.step()
    first = run.weights()
    mine.save(1, run, {})
    run.step()
    mine.save(2, run, {}, wait=True)
    mine.wait()
    return first


def steps(store: Storage) -> list[int]:
    return [item.step for item in marker.list_complete(store)]


def test_what_is_saved_comes_back_whole(store: Storage, tmp_path: Path) -> None:
    run = Run()
    mine = CheckpointManager(shelf(store, tmp_path), IDENTITY)
    assert mine.restore(run) is None
    run.step()
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 - the generator that others draw from
    mine.save(1, run, {"loss": 2.5})
    mine.wait()
    assert mine.latest_step == 1
    drawn = [torch.rand(3).tolist(), random.random(), np.random.rand()]  # noqa: NPY002
    run.step()
    expected = run.weights()

    again = Run()
    found = CheckpointManager(shelf(store, tmp_path), IDENTITY).restore(again)
    assert found is not None
    assert (found.step, found.metadata, found.name) == (1, {"loss": 2.5}, "step-000000001")
    assert [torch.rand(3).tolist(), random.random(), np.random.rand()] == drawn  # noqa: NPY002
    again.step()
    assert torch.equal(again.weights(), expected)


@pytest.fixture
def go(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Nothing is written before it is set."""
    event = threading.Event()
    real = state_dict_saver.save

    def slow(*given: Any, **named: Any) -> Any:
        event.wait(10)
        return real(*given, **named)

    monkeypatch.setattr(shard_io, "save", slow)
    return event


def test_steps_taken_while_it_is_written_do_not_reach_a_checkpoint(
    store: Storage, tmp_path: Path, go: threading.Event
) -> None:
    """``torch.distributed.checkpoint.async_save`` fails here (pytorch#144657)."""
    run = Run()
    mine = CheckpointManager(shelf(store, tmp_path), IDENTITY)
    for step in (1, 2):  # the second time the buffers are there already
        run.step()
        saved = run.weights()
        go.clear()
        mine.save(step, run, {}, wait=True)
        run.step()
        go.set()
        mine.wait()
        again = Run()
        CheckpointManager(shelf(store, tmp_path), IDENTITY).restore(again)
        assert torch.equal(again.weights(), saved)


def test_a_save_is_left_out_while_the_one_before_is_written_unless_it_must_wait(
    store: Storage, tmp_path: Path, go: threading.Event
) -> None:
    run, mine = Run(), CheckpointManager(shelf(store, tmp_path), IDENTITY)
    assert mine.save(1, run, {})
    assert not mine.save(2, run, {})
    assert mine.latest_step is None
    threading.Timer(0.1, go.set).start()
    assert mine.save(3, run, {}, wait=True)
    mine.wait()
    assert steps(store) == [1, 3]


@pytest.mark.parametrize(
    ("step", "seconds", "least", "stalls"),
    [(2, 0.0, 0.1, 0.1), (2, 0.2, 0.1, 0.2), (4, 0.0, 0.1, None)],
    ids=["a small step", "a long step", "one that is to stay"],
)
def test_a_save_waits_a_step_for_the_one_before(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    go: threading.Event,
    step: int,
    seconds: float,
    least: float,
    stalls: float | None,
) -> None:
    monkeypatch.setattr(manager, "MIN_WAIT_S", least)
    store = Storage(str(tmp_path / "checkpoints"))
    run, mine = Run(), CheckpointManager(shelf(store, tmp_path, keep_interval=4), IDENTITY)
    mine.save(1, run, {})
    if stalls is None:
        threading.Timer(0.3, go.set).start()
    began = time.monotonic()
    assert mine.save(step, run, {}, seconds) == (stalls is None)
    assert (stalls or 0.3) <= time.monotonic() - began < 5
    go.set()
    mine.wait()
    assert steps(store) == ([1, step] if stalls is None else [1])


def test_the_newest_and_every_so_many_stay(store: Storage, tmp_path: Path) -> None:
    run, mine = (
        Run(),
        CheckpointManager(shelf(store, tmp_path, keep_last=2, keep_interval=4), IDENTITY),
    )
    for step in range(1, 10):
        mine.save(step, run, {}, wait=True)
    mine.wait()
    assert steps(store) == [4, 8, 9]
    assert store.list_folders() == [marker.checkpoint_name(step) for step in (4, 8, 9)]


def test_a_save_looks_once_at_what_is_there(
    store: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    real = marker.list_complete

    def complete(root: Storage) -> list[marker.Checkpoint]:
        looked.append(root.url)
        return real(root)

    monkeypatch.setattr(marker, "list_complete", complete)
    run, mine = Run(), CheckpointManager(shelf(store, tmp_path, keep_last=1), IDENTITY)
    for step in (1, 2, 3):
        mine.save(step, run, {}, wait=True)
    mine.wait()
    assert looked == [store.url] * 3
    assert store.list_folders() == [marker.checkpoint_name(3)]


@pytest.mark.parametrize("damage", ["no marker", "a shard is short", "a shard is gone"])
def test_half_a_checkpoint_is_never_read_and_the_next_save_sweeps_it_away(
    store: Storage, tmp_path: Path, damage: str
) -> None:
    run, mine = Run(), CheckpointManager(shelf(store, tmp_path), IDENTITY)
    first = saved_twice(run, mine)
    newest = store.subdir(marker.checkpoint_name(2))
    shard = next(name for name in newest.list_files() if name.endswith(".distcp"))
    if damage == "no marker":
        newest.remove(MARKER)
    elif damage == "a shard is short":
        newest.write(shard, newest.read(shard)[:-1])
    else:
        newest.remove(shard)
    again = Run()
    found = CheckpointManager(shelf(store, tmp_path), IDENTITY).restore(again)
    assert found is not None
    assert found.step == 1
    assert torch.equal(again.weights(), first)
    mine.save(3, run, {}, wait=True)
    mine.wait()
    assert steps(store) == [1, 3]
    assert damage != "no marker" or not newest.list_files()


def test_another_run_is_refused_by_the_name_of_what_differs(store: Storage, tmp_path: Path) -> None:
    run, mine = Run(), CheckpointManager(shelf(store, tmp_path), IDENTITY)
    mine.save(1, run, {})
    mine.wait()
    for changes, told in (
        ({"shards": "def"}, r"with other tokens: made with shards = 'abc', this run has 'def'"),
        ({"tokenizer": "u"}, r"with another tokenizer: made with tokenizer = 't'"),
        ({"width": 64}, r"another configuration: made with width = 32, this run has 64"),
        ({"shards": "d", "tokenizer": "u"}, r"with other tokens and another tokenizer: "),
    ):
        with pytest.raises(CheckpointMismatchError, match=told):
            CheckpointManager(shelf(store, tmp_path), {**IDENTITY, **changes}).restore(run)


def test_a_branch_starts_at_the_checkpoint_that_it_is_told(store: Storage, tmp_path: Path) -> None:
    run, mine = Run(), CheckpointManager(shelf(store, tmp_path, keep_last=9), IDENTITY)
    first = saved_twice(run, mine)
    branch, other = store.subdir("rollback-1"), {**IDENTITY, "skip": [[1, 2]]}
    start = ResumePoint(store.url, 1, IDENTITY)
    again = Run()
    kept = CheckpointManager(shelf(branch, tmp_path, resume_point=start), other)
    found = kept.restore(again)
    assert found is not None
    assert found.step == 1
    assert torch.equal(again.weights(), first)
    kept.save(5, again, {})
    kept.wait()
    found = CheckpointManager(shelf(branch, tmp_path, resume_point=start), other).restore(again)
    assert found is not None
    assert found.step == 5
    with pytest.raises(CheckpointSaveError, match="step 7"):
        CheckpointManager(
            shelf(
                store.subdir("rollback-2"),
                tmp_path,
                resume_point=ResumePoint(store.url, 7, IDENTITY),
            ),
            other,
        ).restore(again)


def test_a_save_that_fails_is_told_by_the_next_one(
    store: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    run, mine = Run(), CheckpointManager(shelf(store, tmp_path), IDENTITY)
    monkeypatch.setattr(marker, "write_marker", full)
    mine.save(1, run, {})
    told = r"^writing .*/step-000000001: OSError: \[Errno 28\] No space left on device$"
    with pytest.raises(CheckpointSaveError, match=told):
        mine.save(2, run, {}, wait=True)
    assert steps(store) == []


def limited(rank: int, folder: Path) -> None:
    """A process; to the second one no file may grow beyond some bytes."""
    init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    os.environ["LOCAL_RANK"] = str(rank)
    run, mine = (
        Run(),
        CheckpointManager(shelf(Storage(str(folder / "checkpoints")), folder), IDENTITY),
    )
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if rank == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, before[1]))
    mine.save(1, run, {})
    with pytest.raises(CheckpointSaveError) as met:
        mine.wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (folder / f"said-{rank}").write_text(str(met.value))
    destroy_process_group()


@pytest.mark.timeout(240)
def test_a_disk_that_is_full_is_told_by_all_and_half_a_checkpoint_gives_its_room_back(
    tmp_path: Path,
) -> None:
    spawn(limited, (tmp_path,), nprocs=2)
    (told,) = {(tmp_path / f"said-{rank}").read_text() for rank in range(2)}
    folder = tmp_path / "checkpoints" / marker.checkpoint_name(1)
    assert told.startswith(f"{folder}: the checkpoint cannot be written (process 1: [Errno 27] ")
    assert not folder.exists()


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_full_disk_is_told_in_its_own_words(tmp_path: Path) -> None:
    """torch's are ``unexpected pos 704 vs 598``."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(
            CheckpointSaveError, match=r"process 0: \[Errno 27\] File too large\); when"
        ):
            shard_io.write_shards({"a": torch.zeros(1000, 100)}, tmp_path / "half", None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_disk_that_is_full_behind_the_shards_gives_its_room_back(tmp_path: Path) -> None:
    """Here the copy of the log does not fit any more."""
    (tmp_path / "metrics.jsonl").write_bytes(bytes(2 << 20))
    mine = CheckpointManager(shelf(Storage(str(tmp_path / "checkpoints")), tmp_path), IDENTITY)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        mine.save(1, Run(), {})
        with pytest.raises(
            CheckpointSaveError, match=r"step-000000001: OSError: \[Errno 27\] File too large"
        ):
            mine.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "checkpoints" / marker.checkpoint_name(1)).exists()


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_what_may_pass_is_no_reason_to_end_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no ``UserError``, which is final: torchrun starts the processes again."""

    def fails(number: int) -> Callable[..., None]:
        def fail(*_: Any) -> None:
            raise OSError(number, "the disk said")

        return fail

    with pytest.raises(RankFailedError, match=r"^writing: OSError: \[Errno 5\] the disk said$"):
        shard_io.run_on_all_ranks(None, "writing", fails(errno.EIO))
    with pytest.raises(CheckpointSaveError):
        shard_io.run_on_all_ranks(None, "writing", fails(errno.ENOSPC))
    for number, kind in ((errno.EIO, CheckpointException), (errno.EACCES, CheckpointSaveError)):
        monkeypatch.setattr(shard_io.ShardWriter, "write_data", fails(number))
        with pytest.raises(kind):
            shard_io.write_shards({"a": torch.zeros(2)}, tmp_path / "half", None)


def test_a_store_that_is_away_for_a_while_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.store.retry.MIN_BACKOFF_S", 0.01)
    store = Storage("memory://bucket/away")
    away, real = [0], Storage.upload

    def upload(self: Storage, local: Path, name: str) -> None:
        away[0] += 1
        if away[0] < 5:
            raise ConnectionError("refused")
        real(self, local, name)

    monkeypatch.setattr(Storage, "upload", upload)
    run, mine = Run(), CheckpointManager(shelf(store, tmp_path, timeout_s=60), IDENTITY)
    mine.save(1, run, {})
    mine.wait()
    assert steps(store) == [1]
    assert away[0] > 5
    fsspec.filesystem("memory").store.clear()


def test_only_one_copy_is_made_and_its_memory_is_used_again(tmp_path: Path) -> None:
    run, mine = Run(), CheckpointManager(shelf(Storage(str(tmp_path)), tmp_path), IDENTITY)
    copy: Callable[[Run], dict[str, Any]] = mine._copy
    first, second = (copy(run)["model"]["weight"].data_ptr() for _ in range(2))
    assert first == second != run.model.weight.data_ptr()
