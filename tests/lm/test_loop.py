import json
import math
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infra.dataset.dataset import Dataset
from infra.store.storage import Storage
from lm.checkpoint import marker
from lm.checkpoint.marker import Checkpoint, CheckpointMismatchError
from lm.config.train import TrainConfig
from lm.distributed.parallel import clip_gradients
from lm.metrics.logger import read_jsonl
from lm.models.dropout import dropout_keys
from lm.models.registry import build_model
from lm.objectives.causal import Causal
from lm.objectives.examples import to_device
from lm.objectives.goldfish import Goldfish
from lm.train import worker
from lm.train.job import TrainJob
from lm.train.loop import train
from lm.train.loss_spike import LossDivergedError
from lm.train.state import Weights
from lm.train.validation import warm_up
from tests.lm.corpora import splits, tiny, token_shards
from tests.train_entry import replace_fields

KEY = {"shards": "abc", "seed": 1337}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return token_shards(tmp_path_factory.mktemp("store"))


def run(
    tokens: Dataset, folder: Path, config: TrainConfig, key: dict[str, Any] = KEY
) -> tuple[Weights, list[dict[str, Any]]]:
    weights, _ = train(TrainJob(config, 1337, tokens.storage, folder, key))
    return weights, read_jsonl(folder / "metrics.jsonl")


def losses(lines: list[dict[str, Any]]) -> list[float]:
    return [line["loss"] for line in lines]


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def checkpoints(folder: Path) -> list[Checkpoint]:
    return marker.list_complete(Storage(str(folder / "checkpoints")))


def test_ten_steps_have_the_golden_losses(tokens: Dataset, tmp_path: Path) -> None:
    """Fails after any change of model, data order, loss, optimizer or schedule."""
    _, lines = run(tokens, tmp_path, tiny())
    assert losses(lines) == pytest.approx(GOLDEN, abs=2e-3)
    assert lines[-1]["validation_loss"] == pytest.approx(GOLDEN_VALIDATION, abs=2e-3)


GOLDEN = [5.72997, 4.80284, 4.06379, 3.56348, 3.18449, 3.13323, 2.93827, 2.70002, 2.654, 2.71619]
GOLDEN_VALIDATION = 2.71867


@pytest.mark.parametrize("goldfish", [None, {"k": 3, "context": 5}], ids=["all", "goldfish"])
def test_a_model_overfits_one_batch(tmp_path: Path, goldfish: dict[str, int] | None) -> None:
    """With the goldfish loss it learns by heart what is counted, and nothing else."""
    few = token_shards(tmp_path / "store", 4)
    training, _ = splits(few)
    context = len(training) - 1
    config = tiny(
        context_length=context, hidden_size=64, global_batch_size=1, train_tokens=200 * context, validation_tokens=0, log_interval=50,
        checkpoint_interval=200, lr=0.02, weight_decay=0, goldfish=goldfish,
    )  # fmt: skip
    weights, _ = run(few, tmp_path / "run", config)
    model = build_model(config.model.resolve(300))
    model.load_state_dict(weights)
    row = training.read_batch([0], context + 1)
    all_targets = Causal()(row, np.zeros(1, np.int64))
    counted = (
        all_targets if goldfish is None else Goldfish(Causal(), 3, 5)(row, np.zeros(1, np.int64))
    )
    is_counted = counted.targets >= 0
    assert model(counted.inputs, counted.targets).item() / is_counted.sum() < 0.05
    if goldfish is not None:
        dropped = torch.where(is_counted, -1, all_targets.targets)
        assert 0.2 < (~is_counted).float().mean() < 0.45
        assert model(counted.inputs, dropped).item() / (~is_counted).sum() > 1


def test_two_passes_of_four_rows_accumulate_the_gradients_of_one_of_eight(
    tokens: Dataset, tmp_path: Path
) -> None:
    _, expected = run(tokens, tmp_path / "expected", tiny())
    _, parts = run(tokens, tmp_path / "parts", tiny(micro_batch_size=4))
    assert losses(parts) == pytest.approx(losses(expected), rel=1e-5)
    assert [x["rows_digest"] for x in parts] == [x["rows_digest"] for x in expected]


def test_a_resumed_run_equals_the_uninterrupted_run_bit_for_bit(
    tokens: Dataset, tmp_path: Path
) -> None:
    expected, uninterrupted = run(tokens, tmp_path, tiny())
    folders = [item.name for item in checkpoints(tmp_path)]
    assert folders == ["step-000000005", "step-000000010"]
    (tmp_path / "checkpoints" / "step-000000010" / marker.MARKER).unlink()
    resumed, lines = run(tokens, tmp_path, tiny())
    assert same(expected, resumed)
    timeless = [
        [{k: line[k] for k in ("step", "loss", "gradient_norm", "rows_digest")} for line in run]
        for run in (uninterrupted, lines)
    ]
    assert timeless[0] == timeless[1]
    assert lines[:5] == uninterrupted[:5]
    assert lines[5]["clock"] > uninterrupted[-1]["clock"]


def test_a_crash_before_the_marker_costs_one_checkpoint(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = run(tokens, tmp_path / "expected", tiny())
    real = marker.write_marker

    def crash(checkpoint: marker.Checkpoint) -> None:
        if checkpoint.step == 10:
            raise KeyboardInterrupt
        real(checkpoint)

    monkeypatch.setattr(marker, "write_marker", crash)
    with pytest.raises(KeyboardInterrupt):
        run(tokens, tmp_path / "run", tiny())
    monkeypatch.undo()
    half = tmp_path / "run" / "checkpoints" / "step-000000010"
    assert list(half.glob("*.distcp"))
    assert [item.step for item in checkpoints(tmp_path / "run")] == [5]
    resumed, _ = run(tokens, tmp_path / "run", tiny())
    assert same(expected, resumed)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("passes", [1, 2])
def test_steps_use_the_graphs_of_the_compile_warm_up(passes: int) -> None:
    """torch.compile compiles again for other strides, or for one tensor passed twice."""
    config = tiny(dropout=0.1, micro_batch_size=8 // passes)
    model = build_model(config.model.resolve(300))
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    model.dropout = config.optim.dropout
    compiled_model: Any = torch.compile(model, backend=backend)
    cpu, plain = torch.device("cpu"), nullcontext()
    rows = np.zeros((8 // passes, 17), np.int64)
    warm_up(compiled_model, Causal(), rows, config, cpu, plain, None, None)
    compiled = len(graphs)
    examples = Causal()(np.arange(8 * 17).reshape(8, 17), np.arange(8)).to(cpu)
    keys = to_device(dropout_keys(1, np.arange(8)), cpu)
    for part, key in zip(examples.chunk(passes), keys.chunk(passes), strict=True):
        compiled_model(
            part.inputs, part.targets, eos=None, dropout_keys=key, label_smoothing=0.0
        ).backward()
    assert compiled > 0
    assert len(graphs) == compiled


def test_only_the_newest_checkpoints_are_kept(tokens: Dataset, tmp_path: Path) -> None:
    run(tokens, tmp_path, tiny(checkpoint_interval=2, keep_last=3))
    assert [item.step for item in checkpoints(tmp_path)] == [6, 8, 10]
    assert len(list((tmp_path / "checkpoints").iterdir())) == 3


def test_a_checkpoint_of_another_run_is_refused_by_name(tokens: Dataset, tmp_path: Path) -> None:
    run(tokens, tmp_path, tiny())
    with pytest.raises(CheckpointMismatchError, match="shards"):
        run(tokens, tmp_path, tiny(), {**KEY, "shards": "def"})


def test_a_loss_that_is_not_finite_ends_the_run(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "lm.train.loop.learning_rate", lambda step, _: float("inf") if step == 6 else 0.01
    )
    with pytest.raises(LossDivergedError) as caught:
        run(tokens, tmp_path, tiny())
    assert (caught.value.kind, caught.value.first_bad_step, caught.value.step) == (
        "not_finite",
        7,
        8,
    )
    assert caught.value.last_good_step == 5


def test_a_gradient_that_is_not_finite_ends_the_run_though_the_loss_is(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its update would destroy the weights; with the scaled loss of fp16 it is skipped."""
    steps = [0]

    def norm(*args: Any) -> torch.Tensor:
        steps[0] += 1
        return clip_gradients(*args) * (math.inf if steps[0] == 7 else 1.0)

    monkeypatch.setattr("lm.train.loop.clip_gradients", norm)
    with pytest.raises(LossDivergedError) as caught:
        run(tokens, tmp_path, tiny())
    assert (caught.value.kind, caught.value.first_bad_step, caught.value.step) == (
        "not_finite",
        6,
        7,
    )
    assert math.isfinite(caught.value.loss)
    steps[0] = 0
    _, lines = run(tokens, tmp_path / "scaled", tiny(precision="fp16"))
    assert len(lines) == 10


def test_a_loss_spike_ends_the_run_if_it_is_configured(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lm.train.loop.learning_rate", lambda step, _: 3.0 if step == 60 else 0.003)
    config = tiny(
        train_tokens=80 * 8 * 16, log_interval=10, loss_spike_sigma=8.0, checkpoint_interval=25
    )
    with pytest.raises(LossDivergedError) as caught:
        run(tokens, tmp_path, config)
    assert (caught.value.kind, caught.value.first_bad_step, caught.value.step) == ("spike", 61, 70)
    assert caught.value.last_good_step == 50
    assert checkpoints(tmp_path)[-1].step == 50
    with pytest.raises(
        LossDivergedError
    ) as again:  # 12 steps after a resume, fewer than the detector needs
        run(tokens, tmp_path, config)
    assert asdict(again.value) == asdict(caught.value)
    assert all("losses" not in line for line in read_jsonl(tmp_path / "metrics.jsonl"))
    run(tokens, tmp_path / "without", replace_fields(config, loss_spike_sigma=None))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without GPU")
def test_a_missing_device_is_a_result_not_a_crash(tokens: Dataset, tmp_path: Path) -> None:
    job = TrainJob(tiny(device="cuda"), 1337, tokens.storage, tmp_path, KEY)
    result = worker.run_attempt(job)
    assert result.keys() == {"error"}
    assert "train.tiny.run.device" in result["error"]


def test_the_log_has_all_metrics_of_every_step(tokens: Dataset, tmp_path: Path) -> None:
    _, lines = run(tokens, tmp_path, tiny(validation_interval=4, precision="bf16"))
    assert [line["step"] for line in lines] == list(range(1, 11))
    assert [line["step"] for line in lines if "validation_loss" in line] == [4, 8, 10]
    for line in lines:
        assert line["tokens"] == line["step"] * 8 * 16
        assert line["gradient_norm"] > 0
        assert line["tokens_per_second"] > 0
        # Above 1 if other programs held the processor while its peak was measured.
        assert 0 < line["mfu"] < math.inf
        assert 0 <= line["data_wait_fraction"] < 1
        assert line["memory_bytes"] > 1e6
        assert json.dumps(line)
    assert any((tmp_path / "tensorboard").iterdir())


@pytest.mark.parametrize(
    "changes",
    [
        {"dropout": 0.2},
        {"label_smoothing": 0.1},
        {"l1": 1e-4, "l2": 1e-3},
        {"ema_decay": 0.9},
        {"precision": "fp16"},
        {"architecture": "gpt2", "num_kv_heads": None, "activation_checkpointing": True},
        {"schedule": "wsd"},
        {"goldfish": {"k": 3}},
    ],
    ids="-".join,
)
def test_every_setting_resumes_bit_for_bit(
    tokens: Dataset, tmp_path: Path, changes: dict[str, Any]
) -> None:
    plain, _ = run(tokens, tmp_path / "plain", tiny())
    config = tiny(**changes)
    expected, lines = run(tokens, tmp_path / "run", config)
    assert not same(plain, expected) if expected.keys() == plain.keys() else changes["architecture"]
    assert losses(lines)[-1] < losses(lines)[0] - 0.5
    (tmp_path / "run" / "checkpoints" / "step-000000010" / marker.MARKER).unlink()
    resumed, _ = run(tokens, tmp_path / "run", config)
    assert same(expected, resumed)


def test_training_stops_early_with_the_best_weights(tokens: Dataset, tmp_path: Path) -> None:
    """With a learning rate that rises too high, the loss stops improving."""
    config = tiny(
        train_tokens=40 * 8 * 16, validation_interval=2, early_stopping_patience=3, lr=0.02, warmup_fraction=0.9,
        embedding_lr_multiplier=40.0,
    )  # fmt: skip
    weights, lines = run(tokens, tmp_path / "run", config)
    validated = {
        line["step"]: line["validation_loss"] for line in lines if "validation_loss" in line
    }
    best = min(validated, key=lambda step: validated[step])
    assert lines[-1]["stopped"] == "early"
    assert lines[-1]["step"] == best + 6 < 40
    assert lines[-1]["best_step"] == best
    until = replace_fields(config, train_tokens=40 * 8 * 16)
    assert until.steps == 40
    again, _ = run(tokens, tmp_path / "run", config)  # no step is left
    assert same(weights, again)


def test_an_overflow_in_fp16_changes_no_weight(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by either optimizer: a scale that is too large skips steps until it is small enough."""
    monkeypatch.setattr("lm.optim.loss_scale.INITIAL_SCALE", 2.0**40)
    updated: list[int] = []
    monkeypatch.setattr("lm.train.loop.step_optimizers", lambda *_: updated.append(1))
    weights, _ = run(tokens, tmp_path, tiny(precision="fp16", train_tokens=4 * 8 * 16))
    assert not updated
    assert all(torch.isfinite(weight).all() for weight in weights.values())


def test_early_stopping_resumes_bit_for_bit(tokens: Dataset, tmp_path: Path) -> None:
    config = tiny(
        train_tokens=40 * 8 * 16, validation_interval=2, early_stopping_patience=3, lr=0.03, warmup_fraction=0.9,
        embedding_lr_multiplier=40.0, ema_decay=0.5, keep_last=99, log_interval=2,
    )  # fmt: skip
    expected, lines = run(tokens, tmp_path, config)
    best = lines[-1]["best_step"]
    assert lines[-1]["stopped"] == "early"
    for item in checkpoints(tmp_path):  # as after a crash between the best validation and the end
        if item.step > best + 2:
            marker.remove_checkpoint(item.storage)
    resumed, again = run(tokens, tmp_path, config)
    assert same(expected, resumed)
    assert [line["step"] for line in again] == [line["step"] for line in lines]
