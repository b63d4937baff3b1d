"""A run resumes from its checkpoint with the same number of processes, fewer or more."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed import barrier, destroy_process_group, get_rank, init_process_group

from infra.dataset.dataset import Dataset
from infra.store.storage import Storage
from lm.checkpoint.marker import MARKER, list_complete
from lm.metrics.logger import read_jsonl
from lm.train.job import TrainJob
from lm.train.loop import train
from tests.lm.corpora import tiny, token_shards
from tests.lm.group import run_in_processes

HALF, STEPS, BATCH = 10, 20, 12
# By number of processes: the run, the one whose checkpoint it resumes from, the parallelism.
RUNS = {
    2: (
        ("two", None, "fsdp"),
        ("two-two", "two", "fsdp"),
        ("one-two", "one", "fsdp"),
        ("two-ddp", "two", "ddp"),
    ),
    3: (("three", None, "ddp"), ("two-three", "two", "fsdp")),
}


def run(folder: Path, url: str, processes: int, parallel: str) -> dict[str, Any]:
    changes: dict[str, Any] = {"checkpoint_interval": HALF, "ema_decay": 0.9, "dropout": 0.1}
    changes |= {"global_batch_size": BATCH, "train_tokens": STEPS * BATCH * 16}
    config = tiny(num_processes=processes, data_parallel=parallel, **changes)
    weights, _ = train(TrainJob(config, 1337, Storage(url), folder))
    return weights


def cut_off(whole: Path, folder: Path) -> Path:
    """A copy of a run that was killed before its last checkpoint was complete."""
    shutil.copytree(whole, folder)
    (folder / "checkpoints" / f"step-{STEPS:09d}" / MARKER).unlink()
    return folder


def process(rank: int, world: int, url: str, folder: Path) -> None:
    torch.set_num_threads(1)
    rendezvous = f"file://{folder}/rendezvous-{world}"
    init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=world)
    for name, whole, parallel in RUNS[world]:
        if whole and get_rank() == 0:
            cut_off(folder / whole, folder / name)
        barrier()
        weights = run(folder / name, url, world, parallel)
        if get_rank() == 0:
            torch.save(weights, folder / name / "weights.pt")
    destroy_process_group()


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return token_shards(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def runs(tokens: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    url = tokens.storage.url
    run(folder / "one", url, 1, "ddp")
    for world in RUNS:
        run_in_processes(process, (world, url, folder), world)
    run(cut_off(folder / "two", folder / "two-one"), url, 1, "ddp")
    return folder


def metric(folder: Path, name: str) -> list[float]:
    lines = read_jsonl(folder / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    return [line[name] for line in lines]


def test_each_process_has_its_own_shards(runs: Path) -> None:
    last = list_complete(Storage(str(runs / "two" / "checkpoints")))[-1]
    assert last.world_size == 2
    assert {name.split("_")[2] for name in last.files if name.endswith("distcp")} == {"0", "1"}


@pytest.mark.parametrize("name", ["two-two", "two-one", "two-ddp", "two-three", "one-two"])
def test_a_run_resumes_from_the_checkpoint(runs: Path, name: str) -> None:
    attempts = read_jsonl(runs / name / "attempts.jsonl")
    assert [item["step"] for item in attempts] == [0, HALF]
    assert [item["replayed_steps"] for item in attempts] == [0, HALF]


def test_with_the_same_processes_it_resumes_bit_for_bit(runs: Path) -> None:
    assert metric(runs / "two-two", "loss") == metric(runs / "two", "loss")
    whole, again = (torch.load(runs / name / "weights.pt") for name in ("two", "two-two"))
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize("name", ["two-one", "two-ddp", "two-three", "one-two"])
def test_with_other_processes_batches_and_losses_are_the_same(runs: Path, name: str) -> None:
    whole = runs / name.split("-", maxsplit=1)[0]
    assert metric(runs / name, "rows_digest") == metric(whole, "rows_digest")
    assert metric(runs / name, "loss") == pytest.approx(metric(whole, "loss"), rel=1e-5)


def test_three_processes_learn_what_one_does(runs: Path) -> None:
    for field, tolerance in (("rows_digest", 0.0), ("loss", 1e-5), ("gradient_norm", 1e-4)):
        one, three = metric(runs / "one", field), metric(runs / "three", field)
        assert three == pytest.approx(one, rel=tolerance), field
