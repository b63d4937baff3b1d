import json
from pathlib import Path
from typing import Any

import pytest
import torch

from infra.dataset import Dataset
from tasks.train import checkpoint, worker
from tasks.train.checkpoint import OtherRun
from tasks.train.config import TrainConfig
from tasks.train.journal import read
from tasks.train.loop import Job, NotFinite, train
from tasks.train.model import Decoder
from tests.train.corpora import splits, tiny, token_shards

IDENTITY = {"tokens": "abc", "seed": 1337}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return token_shards(tmp_path_factory.mktemp("store"))


def run(
    tokens: Dataset, folder: Path, config: TrainConfig, identity: dict[str, Any] = IDENTITY
) -> tuple[Decoder, list[dict[str, Any]]]:
    model, _ = train(Job(config, 1337, 300, folder, identity), *splits(tokens))
    return model, read(folder / "metrics.jsonl")


def losses(lines: list[dict[str, Any]]) -> list[float]:
    return [line["loss"] for line in lines]


def same(one: Decoder, other: Decoder) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_ten_steps_are_as_they_were_recorded(tokens: Dataset, tmp_path: Path) -> None:
    """Any change of model, order, loss, optimizer or schedule shows here."""
    _, lines = run(tokens, tmp_path, tiny())
    assert losses(lines) == pytest.approx(GOLDEN, abs=2e-3)
    assert lines[-1]["validation_loss"] == pytest.approx(GOLDEN_VALIDATION, abs=2e-3)


GOLDEN = [5.72997, 4.80284, 4.06379, 3.56348, 3.18449, 3.13323, 2.93827, 2.70002, 2.654, 2.71619]
GOLDEN_VALIDATION = 2.71867


def test_one_batch_is_learned_by_heart(tmp_path: Path) -> None:
    few = token_shards(tmp_path / "store", 4)
    training, _ = splits(few)
    context = len(training) - 1
    config = tiny(
        context=context, width=64, batch=1, tokens=200 * context, validation_tokens=0, log_every=50,
        checkpoint_every=200, learning_rate=0.02, weight_decay=0,
    )  # fmt: skip
    model, _ = run(few, tmp_path / "run", config)
    row = torch.from_numpy(training.windows([0], context + 1))
    assert model(row[:, :-1], row[:, 1:]).item() / context < 0.05


def test_gradients_of_two_passes_of_four_are_those_of_one_of_eight(
    tokens: Dataset, tmp_path: Path
) -> None:
    _, whole = run(tokens, tmp_path / "whole", tiny())
    _, parts = run(tokens, tmp_path / "parts", tiny(micro_batch=4))
    assert losses(parts) == pytest.approx(losses(whole), rel=1e-5)
    assert [x["rows_digest"] for x in parts] == [x["rows_digest"] for x in whole]


def test_a_resumed_run_is_the_undisturbed_run_to_the_bit(tokens: Dataset, tmp_path: Path) -> None:
    whole, undisturbed = run(tokens, tmp_path, tiny())
    folders = [item.folder.name for item in checkpoint.complete(tmp_path / "checkpoints")]
    assert folders == ["step-000000005", "step-000000010"]
    (tmp_path / "checkpoints" / "step-000000010" / checkpoint.MARKER).unlink()
    resumed, lines = run(tokens, tmp_path, tiny())
    assert same(whole, resumed)
    timeless = [
        [{k: line[k] for k in ("step", "loss", "gradient_norm", "rows_digest")} for line in run]
        for run in (undisturbed, lines)
    ]
    assert timeless[0] == timeless[1]
    assert lines[:5] == undisturbed[:5]
    assert lines[5]["clock"] > undisturbed[-1]["clock"]


def test_a_crash_before_the_marker_costs_one_checkpoint(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = run(tokens, tmp_path / "whole", tiny())
    real = checkpoint.mark

    def crash(folder: Path, marker: dict[str, Any]) -> None:
        if marker["step"] == 10:
            raise KeyboardInterrupt
        real(folder, marker)

    monkeypatch.setattr(checkpoint, "mark", crash)
    with pytest.raises(KeyboardInterrupt):
        run(tokens, tmp_path / "run", tiny())
    monkeypatch.undo()
    half = tmp_path / "run" / "checkpoints" / "step-000000010"
    assert list(half.glob("*.distcp"))
    assert [item.step for item in checkpoint.complete(half.parent)] == [5]
    resumed, _ = run(tokens, tmp_path / "run", tiny())
    assert same(whole, resumed)


def test_only_the_newest_checkpoints_are_kept(tokens: Dataset, tmp_path: Path) -> None:
    run(tokens, tmp_path, tiny(checkpoint_every=2, keep=3))
    kept = [item.step for item in checkpoint.complete(tmp_path / "checkpoints")]
    assert kept == [6, 8, 10]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 3


def test_a_checkpoint_of_another_run_is_refused_by_name(tokens: Dataset, tmp_path: Path) -> None:
    run(tokens, tmp_path, tiny())
    with pytest.raises(OtherRun, match=r"made with tokens = 'abc', this run has 'def'"):
        run(tokens, tmp_path, tiny(), {**IDENTITY, "tokens": "def"})


def test_a_loss_that_is_no_number_ends_the_run(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tasks.train.loop.learning_rate", lambda step, _: float("inf") if step == 6 else 0.01
    )
    with pytest.raises(NotFinite, match=r"the loss is nan at step 8 .* checkpoint is .*000000005"):
        run(tokens, tmp_path, tiny())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_a_result_not_a_crash(
    tokens: Dataset, tmp_path: Path
) -> None:
    job = Job(tiny(device="cuda"), 1337, 300, tmp_path, IDENTITY)
    result = worker.attempt(job, *splits(tokens))
    assert result == {"error": "train.tiny.device: cuda, but torch sees 0 GPUs for 1 processes"}


def test_the_log_says_what_matters(tokens: Dataset, tmp_path: Path) -> None:
    _, lines = run(tokens, tmp_path, tiny(validation_every=4, precision="bf16"))
    assert [line["step"] for line in lines] == list(range(1, 11))
    assert [line["step"] for line in lines if "validation_loss" in line] == [4, 8, 10]
    for line in lines:
        assert line["tokens"] == line["step"] * 8 * 16
        assert line["gradient_norm"] > 0
        assert line["tokens_per_second"] > 0
        assert 0 < line["mfu"] < 1
        assert 0 <= line["data_wait"] < 1
        assert line["memory_bytes"] > 1e6
        assert json.dumps(line)
    assert any((tmp_path / "tensorboard").iterdir())
