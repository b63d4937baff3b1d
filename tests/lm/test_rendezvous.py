"""How machines find each other; two of them train together in tests/e2e/test_nodes.py."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cli.main import main
from infra.errors import UserError
from infra.store.storage import Storage
from lm.config.train import TrainConfig
from lm.distributed.ranks import global_rank
from lm.launch import node
from lm.launch.rendezvous import (
    interface_name,
    local_address,
    publish_end,
    publish_job,
    read_job,
    rendezvous_store,
)
from lm.launch.torchrun import TrainingFailedError, command
from lm.train.job import TrainJob
from tests.e2e.command import write_recipe
from tests.lm.corpora import tiny
from tests.train_entry import train_entry

HERE = "127.0.0.1:29400"


def two(folder: Path) -> TrainConfig:
    return tiny(num_nodes=2, num_processes=4, rendezvous=HERE, checkpoint_url=str(folder))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"num_nodes": 2, "num_processes": 4, "checkpoint_url": "x"},
            "rendezvous is required",
        ),
        ({"num_nodes": 2, "num_processes": 4, "rendezvous": HERE}, "checkpoint_url is required"),
        ({"num_nodes": 2, "num_processes": 1}, "num_processes 1 is not a multiple of num_nodes 2"),
        ({"rendezvous": "10.0.0.1"}, "rendezvous\n  String should match"),
    ],
)
def test_a_recipe_says_what_several_machines_need(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        tiny(**changes)


def test_machines_share_the_processes(tmp_path: Path) -> None:
    config = two(tmp_path)
    assert (config.run.local_processes, config.run.cpu_cores) == (2, 2)
    assert config.weights_key() == tiny(num_processes=4).weights_key()
    job = TrainJob(config, 1, Storage(str(tmp_path)), tmp_path, start_id="abc", is_first_node=False)
    words = command(job)
    assert {"--nnodes=2", "--nproc-per-node=2", "--local-addr=127.0.0.1"} <= set(words)
    assert any(word.startswith("--rdzv-conf=is_host=0,") for word in words)


def test_the_way_to_the_rendezvous_names_the_interface() -> None:
    assert local_address(HERE) == "127.0.0.1"
    assert interface_name("127.0.0.1").startswith("lo")
    with pytest.raises(UserError, match="no network interface"):
        interface_name("203.0.113.1")
    with pytest.raises(UserError, match=r"rendezvous host\.invalid:1"):
        local_address("host.invalid:1")


@given(st.integers(1, 5), st.integers(1, 4), st.data())
def test_the_first_machine_has_the_first_ranks(machines: int, each: int, data: Any) -> None:
    first = data.draw(st.integers(0, machines - 1))
    ranks = [global_rank(m, first, each, p) for m in range(machines) for p in range(each)]
    assert sorted(ranks) == list(range(machines * each))
    assert [global_rank(first, first, each, p) for p in range(each)] == list(range(each))


def test_a_machine_takes_part_in_each_start_until_the_model_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = two(tmp_path)
    meet = rendezvous_store(config, "tiny-abc")
    assert meet is not None
    assert rendezvous_store(tiny(), "tiny-abc") is None
    publish_end(meet, "of a run before")  # which is over: nobody heeds it
    job = TrainJob(config, 1, Storage(str(tmp_path)), tmp_path)
    begun: list[str] = []
    said: list[str] = []
    pauses: list[str] = []

    def torchrun(started: TrainJob, *_: Any) -> int:
        assert started == TrainJob.load(started.folder)
        assert not started.is_first_node
        begun.append(str(started.start_id))
        return len(begun) % 2  # fails, ends well, fails

    def sleep(_: float) -> None:
        pauses.append("x")
        if len(pauses) in (2, 4, 6):
            publish_job(meet, job)

    monkeypatch.setattr(node, "torchrun", torchrun)
    monkeypatch.setattr("lm.launch.node.time.sleep", sleep)
    monkeypatch.setattr(node, "cache_root", lambda: tmp_path / "cache")
    node.run_node(config, meet, lambda: len(pauses) > 7, said.append)
    assert len(set(begun)) == len(begun) == 3
    assert said[0].startswith("waiting for the first node")
    assert sum(text.startswith("training tiny with 2 processes") for text in said) == 3
    assert sum("ended with status 1" in text for text in said) == 2


def test_the_end_of_a_run_without_a_model_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = two(tmp_path)
    meet = Storage(str(tmp_path))
    publish_job(meet, TrainJob(config, 1, meet, tmp_path))

    def torchrun(*_: Any, **__: Any) -> int:
        publish_end(meet, "the loss is no number")
        return 0

    monkeypatch.setattr(node, "torchrun", torchrun)
    monkeypatch.setattr(node, "cache_root", lambda: tmp_path / "cache")
    with pytest.raises(TrainingFailedError, match="ended the run: the loss is no number"):
        node.run_node(config, meet, lambda: False, lambda _: None)
    assert read_job(meet) == {"ended": "the loss is no number"}
    assert read_job(meet.subdir("nowhere")) is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "other"], "--model other"),
        (["--model", "tiny"], "train.tiny.run.num_nodes: 1"),
    ],
)
def test_join_says_what_cannot_be_joined(tmp_path: Path, words: Sequence[str], said: str) -> None:
    source = {"name": "a", "kind": "documents", "paths": ["x.jsonl"]}
    model = train_entry(name="tiny", num_layers=1, hidden_size=32, num_heads=2, train_tokens=100)
    path = write_recipe(tmp_path / "r.yaml", {"name": "r", "sources": [source], "train": [model]})
    result = CliRunner().invoke(main, ["train-node", str(path), *words])
    assert result.exit_code == 1
    assert said in result.stderr
