"""One thread: tests are small, run beside others, and compare sums that depend on its number."""

import json
from collections.abc import Iterator

import pytest
import torch

from infra.dataset.dataset import Dataset
from lm.launch import torchrun as launching
from lm.launch.torchrun import OnMetrics
from lm.metrics.logger import read_jsonl
from lm.train import worker
from lm.train.job import RESULT_FILE, TrainJob
from tests.limits import WAIT_TIMEOUT_S
from tests.lm import corpora, planted


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Per module, because its tests share runs that are trained before the first of them starts."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in this process instead of torchrun's, with every checkpoint.

    On a busy machine a checkpoint is left out if the one before it is still being written.
    """

    def run(job: TrainJob, on_metrics: OnMetrics, _: object) -> int:
        result = worker.run_attempt(TrainJob.load(job.folder))
        (job.folder / RESULT_FILE).write_text(json.dumps(result))
        for line in read_jsonl(job.folder / "metrics.jsonl"):
            on_metrics(line)
        return 0

    monkeypatch.setattr(launching, "torchrun", run)
    monkeypatch.setattr("lm.checkpoint.manager.MIN_WAIT_S", WAIT_TIMEOUT_S)


@pytest.fixture(scope="session")
def planted_tokens(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Token shards of the text whose meaning word vectors must find."""
    root = tmp_path_factory.mktemp("planted")
    return corpora.token_shards(root, documents=planted.documents(8000))
