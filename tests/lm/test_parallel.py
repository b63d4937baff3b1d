"""One process, two, and two sharded ones learn the same."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.distributed import destroy_process_group, init_process_group
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from infra.dataset.dataset import Dataset
from infra.store.storage import Storage
from lm.checkpoint.marker import MARKER, checkpoint_name
from lm.metrics.logger import read_jsonl
from lm.train.job import TrainJob
from lm.train.loop import train
from tests.lm.corpora import tiny, token_shards
from tests.lm.group import run_in_processes

STEPS = 50
CHOICES: dict[str, dict[str, Any]] = {
    "muon": {
        "ema_decay": 0.9,
        "l1": 1e-5,
        "validation_interval": 25,
        "architecture": "gpt2",
        "num_kv_heads": None,
    },
    # Rows of best_fit are padded differently: processes and passes count different numbers of tokens.
    "adamw": {
        "optimizer": "adamw",
        "lr": 0.003,
        "dropout": 0.2,
        "micro_batch_size": 2,
        "packing": "best_fit_masked",
    },
    "fp16": {"precision": "fp16", "train_tokens": 10 * 8 * 16},
    # Each process has the states of its own rows, and each pass those of a part of them.
    "carried": {
        "family": "lstm",
        "carry_state": True,
        "num_heads": None,
        "num_kv_heads": None,
        "micro_batch_size": 2,
    },
}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return token_shards(tmp_path_factory.mktemp("store"))


def run(name: str, processes: int, parallel: str, url: str, folder: Path) -> None:
    changes = {
        "train_tokens": STEPS * 8 * 16,
        "checkpoint_interval": 25,
        "num_processes": processes,
    }
    config = tiny(**{**changes, **CHOICES[name], "data_parallel": parallel})
    job = TrainJob(config, 1337, Storage(url), folder / f"{name}-{processes}-{parallel}")
    weights, _ = train(job)
    if weights:
        torch.save(weights, job.folder / "weights.pt")


def process(rank: int, url: str, folder: Path) -> None:
    torch.set_num_threads(1)
    init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    for parallel in ("ddp", "fsdp"):
        for name in CHOICES:
            run(name, 2, parallel, url, folder)
    destroy_process_group()


@pytest.fixture(scope="module")
def runs(tokens: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    run_in_processes(process, (tokens.storage.url, folder), 2)
    for name in CHOICES:
        run(name, 1, "ddp", tokens.storage.url, folder)
    return folder


def steps(folder: Path) -> int:
    """Steps of a run in this folder."""
    return 10 if "fp16" in folder.name else STEPS


def metric(folder: Path, name: str) -> list[float]:
    lines = read_jsonl(folder / "metrics.jsonl")
    assert len(lines) == steps(folder)
    return [line[name] for line in lines if name in line]


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("name", CHOICES)
def test_two_processes_learn_what_one_does(runs: Path, name: str, parallel: str) -> None:
    one, two = runs / f"{name}-1-ddp", runs / f"{name}-2-{parallel}"
    tolerance = 2e-2 if name == "fp16" else 1e-5
    assert metric(two, "rows_digest") == metric(one, "rows_digest")
    for field in ("loss", "validation_loss"):
        assert metric(two, field) == pytest.approx(metric(one, field), rel=tolerance), field
    losses = metric(one, "loss")
    assert losses[-1] < losses[0] - 1


def saved_state(folder: Path, step: int) -> dict[str, Any]:
    """The state of a checkpoint, assembled from its shards by torch instead of the training loop."""
    path = folder / f"state-{step}.pt"
    dcp_to_torch_save(folder / "checkpoints" / checkpoint_name(step), path)
    state: dict[str, Any] = torch.load(path)
    return state


@pytest.mark.parametrize("name", CHOICES)
def test_final_weights_are_gathered_from_all_shards(runs: Path, name: str) -> None:
    folder = runs / f"{name}-2-fsdp"
    weights, state = torch.load(folder / "weights.pt"), saved_state(folder, steps(folder))
    expected = state.get("ema", state["model"])
    assert all(torch.equal(weights[key], value) for key, value in expected.items())
    assert weights.keys() == state["model"].keys()


def test_carried_states_of_two_processes_are_resumed_by_one(
    tokens: Dataset, runs: Path, tmp_path: Path
) -> None:
    whole, folder = runs / "carried-2-fsdp", tmp_path / "carried-1-ddp"
    shutil.copytree(whole, folder)
    (folder / "checkpoints" / checkpoint_name(STEPS) / MARKER).unlink()
    run("carried", 1, "ddp", tokens.storage.url, tmp_path)
    assert metric(folder, "loss") == pytest.approx(metric(whole, "loss"), rel=1e-5)
    ends = [saved_state(each, STEPS)["carried"] for each in (whole, folder)]
    assert ends[0].shape == (8, 2, 2, 32)
    torch.testing.assert_close(*ends, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", [name for name in CHOICES if name != "fp16"])
def test_sharded_processes_learn_the_weights_of_whole_ones(runs: Path, name: str) -> None:
    """At half the steps: rounding in bf16 products adds up, and differs between processors.

    A single element may be some 1e-4 off; a matrix as a whole is not.
    """
    ddp, fsdp = (
        saved_state(runs / f"{name}-2-{parallel}", STEPS // 2)["model"]
        for parallel in ("ddp", "fsdp")
    )
    assert ddp.keys() == fsdp.keys()
    for key in ddp:
        torch.testing.assert_close(fsdp[key], ddp[key], atol=2e-3, rtol=1e-3)
        difference = (fsdp[key].float() - ddp[key].float()).norm()
        assert difference <= 1e-3 * ddp[key].float().norm(), key


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "global_batch_size 8"),
        (
            {"global_batch_size": 12, "micro_batch_size": 3},
            "micro_batch_size 3",
        ),
    ],
)
def test_a_batch_that_does_not_divide_by_the_processes_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        tiny(num_processes=3, **changes)
