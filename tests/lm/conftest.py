"""One thread: tests are small, run beside others, and compare sums that depend on the number."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from infra.dataset.dataset import Dataset
from lm.checkpoint.retention import CheckpointStore
from lm.config.train import TrainConfig
from lm.launch import torchrun as launching
from lm.metrics.logger import read_jsonl
from lm.train import worker
from lm.train.loop import TrainJob


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Of the module: what its tests share is trained before the first of them begins."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def in_process(tokens: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """No torchrun: the job it would be given is done here."""

    def run(
        config: TrainConfig,
        folder: Path,
        heard: Callable[[dict[str, Any]], None],
        *_: Any,
        is_first_node: bool,
    ) -> int:
        value = json.loads((folder / "job.json").read_bytes())
        skip = tuple((first, end) for first, end in value["skip"])
        shelf = CheckpointStore.from_config(
            config, folder, value["checkpoint_url"], value["resume_point"]
        )
        job = TrainJob(
            config, value["seed"], 300, 0, folder, value["compatibility_key"], shelf, skip
        )
        result = worker.run_attempt(job, tokens)
        (folder / "result.json").write_text(json.dumps(result))
        for line in read_jsonl(folder / "metrics.jsonl"):
            heard(line)
        return 0

    monkeypatch.setattr(launching, "torchrun", run)
