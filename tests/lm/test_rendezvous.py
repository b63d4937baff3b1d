"""How nodes find each other; two of them train together in tests/e2e/test_nodes.py."""

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
    ("changes", "message"),
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
def test_a_recipe_with_several_nodes_is_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


def test_nodes_divide_the_processes(tmp_path: Path) -> None:
    config = two(tmp_path)
    assert (config.run.local_processes, config.run.cpu_cores) == (2, 2)
    assert config.weights_key() == tiny(num_processes=4).weights_key()
    job = TrainJob(
        config, 1, Storage(str(tmp_path)), tmp_path, attempt_id="abc", is_first_node=False
    )
    arguments = command(job)
    assert {"--nnodes=2", "--nproc-per-node=2", "--local-addr=127.0.0.1"} <= set(arguments)
    assert any(word.startswith("--rdzv-conf=is_host=0,") for word in arguments)


def test_the_interface_is_the_one_that_reaches_the_rendezvous() -> None:
    assert local_address(HERE) == "127.0.0.1"
    assert interface_name("127.0.0.1").startswith("lo")
    with pytest.raises(UserError, match="no network interface"):
        interface_name("203.0.113.1")
    with pytest.raises(UserError, match=r"rendezvous host\.invalid:1"):
        local_address("host.invalid:1")


@given(st.integers(1, 5), st.integers(1, 4), st.data())
def test_the_first_node_has_the_first_ranks(machines: int, each: int, data: Any) -> None:
    first = data.draw(st.integers(0, machines - 1))
    ranks = [global_rank(m, first, each, p) for m in range(machines) for p in range(each)]
    assert sorted(ranks) == list(range(machines * each))
    assert [global_rank(first, first, each, p) for p in range(each)] == list(range(each))


def test_a_node_takes_part_in_each_attempt_until_the_model_is_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = two(tmp_path)
    store = rendezvous_store(config, "tiny-abc")
    assert store is not None
    assert rendezvous_store(tiny(), "tiny-abc") is None
    publish_end(store, "an earlier run")  # must be ignored
    job = TrainJob(config, 1, Storage(str(tmp_path)), tmp_path)
    attempt_ids: list[str] = []
    statuses: list[str] = []
    pauses: list[str] = []

    def torchrun(started: TrainJob, *_: Any) -> int:
        assert started == TrainJob.load(started.folder)
        assert not started.is_first_node
        attempt_ids.append(str(started.attempt_id))
        return len(attempt_ids) % 2  # fails, succeeds, fails

    def sleep(_: float) -> None:
        pauses.append("x")
        if len(pauses) in (2, 4, 6):
            publish_job(store, job)

    monkeypatch.setattr(node, "torchrun", torchrun)
    monkeypatch.setattr("lm.launch.node.time.sleep", sleep)
    monkeypatch.setattr(node, "cache_root", lambda: tmp_path / "cache")
    assert node.run_node(
        config,
        store,
        is_committed=lambda: len(pauses) > 7,
        is_superseded=lambda: False,
        on_status=statuses.append,
    )
    assert len(set(attempt_ids)) == len(attempt_ids) == 3
    assert statuses[0].startswith("waiting for the first node")
    assert sum(text.startswith("training tiny with 2 processes") for text in statuses) == 3
    assert sum("ended with status 1" in text for text in statuses) == 2


def test_a_node_leaves_a_run_that_another_one_superseded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lm.launch.node.time.sleep", lambda _: pytest.fail("it waits"))
    assert not node.run_node(
        two(tmp_path),
        Storage(str(tmp_path)),
        is_committed=lambda: False,
        is_superseded=lambda: True,
        on_status=lambda _: None,
    )


def test_a_node_ends_with_the_reason_of_the_first_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = two(tmp_path)
    store = Storage(str(tmp_path))
    publish_job(store, TrainJob(config, 1, store, tmp_path))

    def torchrun(*_: Any, **__: Any) -> int:
        publish_end(store, "the loss is NaN")
        return 0

    monkeypatch.setattr(node, "torchrun", torchrun)
    monkeypatch.setattr(node, "cache_root", lambda: tmp_path / "cache")
    with pytest.raises(TrainingFailedError, match="ended the run: the loss is NaN"):
        node.run_node(
            config,
            store,
            is_committed=lambda: False,
            is_superseded=lambda: False,
            on_status=lambda _: None,
        )
    assert read_job(store) == {"ended": "the loss is NaN"}
    assert read_job(store.subdir("nowhere")) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "other"], "--model other"),
        (["--model", "tiny"], "train.tiny.run.num_nodes: 1"),
    ],
)
def test_train_node_refuses_a_model_without_several_nodes(
    tmp_path: Path, words: Sequence[str], message: str
) -> None:
    source = {"name": "a", "kind": "documents", "paths": ["x.jsonl"]}
    model = train_entry(name="tiny", num_layers=1, hidden_size=32, num_heads=2, train_tokens=100)
    path = write_recipe(tmp_path / "r.yaml", {"name": "r", "sources": [source], "train": [model]})
    result = CliRunner().invoke(main, ["train-node", str(path), *words])
    assert result.exit_code == 1
    assert message in result.stderr
