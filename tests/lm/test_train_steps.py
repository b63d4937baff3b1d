"""Settings of the recipe that change a step."""

from pathlib import Path
from typing import Any

import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from infra.dataset.dataset import Dataset
from lm.checkpoint import marker
from lm.config.train import TrainConfig
from lm.metrics.logger import read_jsonl
from lm.models import dropout
from lm.models.registry import build_model
from lm.train.job import TrainJob
from lm.train.loop import train
from lm.train.loss_spike import LossDivergedError
from lm.train.state import State, Weights, clone_weights
from tests.lm.corpora import tiny, token_shards


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return token_shards(tmp_path_factory.mktemp("store"))


def run(tokens: Dataset, folder: Path, config: TrainConfig) -> tuple[Weights, list[dict[str, Any]]]:
    weights, _ = train(TrainJob(config, 1337, tokens.storage, folder))
    return weights, read_jsonl(folder / "metrics.jsonl")


def metric(lines: list[dict[str, Any]], name: str) -> list[float]:
    return [line[name] for line in lines]


def same(one: Weights, other: Weights) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_a_mask_separates_documents(tokens: Dataset, tmp_path: Path) -> None:
    _, plain = run(tokens, tmp_path / "plain", tiny())
    _, masked = run(tokens, tmp_path / "masked", tiny(packing="concatenate_masked"))
    assert metric(plain, "rows_digest") == metric(masked, "rows_digest")
    assert plain[0]["loss"] != pytest.approx(masked[0]["loss"], rel=1e-5)
    assert plain[-1]["validation_loss"] != pytest.approx(masked[-1]["validation_loss"], rel=1e-5)


def test_every_sample_has_its_own_dropout(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples_with_keys: list[int] = []

    def keys(seed: int, samples: NDArray[Any]) -> NDArray[Any]:
        samples_with_keys.extend(samples.tolist())
        return dropout.dropout_keys(seed, samples)

    monkeypatch.setattr("lm.train.loop.dropout_keys", keys)
    run(tokens, tmp_path, tiny(dropout=0.1))
    assert samples_with_keys == [*range(80)]


def test_the_moving_average_forgets_the_first_weights_and_is_the_result(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, history = State.update_ema, list[Weights]()

    def record(self: State, decay: float, step: int) -> None:
        history.append(clone_weights(self.model))
        real(self, decay, step)

    monkeypatch.setattr(State, "update_ema", record)
    averaged, lines = run(tokens, tmp_path / "averaged", tiny(ema_decay=0.5))
    torch.manual_seed(1337)
    expected = clone_weights(build_model(tiny().model.resolve(300)))
    for step, weights in enumerate(history):
        decay = min(0.5, (1 + step) / (10 + step))
        for name, weight in weights.items():
            expected[name] = decay * expected[name] + (1 - decay) * weight
    for name, weight in expected.items():
        torch.testing.assert_close(averaged[name], weight, atol=1e-6, rtol=1e-5)
    # Training continues with its own weights after the average was validated.
    plain, own = run(tokens, tmp_path / "plain", tiny(validation_interval=1))
    _, validated = run(tokens, tmp_path / "validated", tiny(ema_decay=0.5, validation_interval=1))
    assert metric(validated, "loss") == metric(own, "loss") == metric(lines, "loss")
    assert not same(averaged, plain)


def test_gradients_that_are_never_finite_end_a_run_in_fp16_when_the_scale_is_exhausted(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lm.train.loop.clip_gradients", lambda *_: torch.tensor(torch.nan))
    with pytest.raises(LossDivergedError) as ended:
        run(tokens, tmp_path, tiny(precision="fp16", train_tokens=40 * 8 * 16))
    assert ended.value.kind == "not_finite"
    assert ended.value.step == 17  # 65,536 halved 17 times is below 1
    lines = read_jsonl(tmp_path / "metrics.jsonl")
    assert len(lines) == 16
    assert not any("gradient_norm" in line for line in lines)


def test_a_run_in_fp16_before_its_first_update_resumes_bit_for_bit(
    tokens: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its optimizers must be restored as ones without steps."""
    monkeypatch.setattr("lm.optim.loss_scale.INITIAL_SCALE", 2.0**24)
    config = tiny(
        precision="fp16", checkpoint_interval=1, keep_last=99, optimizer="adamw", lr=0.003
    )
    whole, lines = run(tokens, tmp_path, config)
    assert "gradient_norm" not in lines[0]
    assert "gradient_norm" in lines[-1]
    for folder in sorted((tmp_path / "checkpoints").iterdir())[1:]:
        (folder / marker.MARKER).unlink()
    resumed, _ = run(tokens, tmp_path, config)
    assert same(whole, resumed)


@pytest.mark.filterwarnings("default")  # torch's own warnings while it compiles
@pytest.mark.parametrize("blocks", [False, True], ids=["whole", "block by block"])
def test_a_compiled_model_has_the_same_loss_and_gradients(blocks: bool, tmp_path: Path) -> None:
    """Sharded models are compiled block by block; dropout differs between blocks.

    Blocks become machine code. The whole model is traced only, as its code takes a minute and a half to compile.
    """
    config = tiny(num_layers=2)
    model = build_model(config.model.resolve(300))
    model.dropout = 0.1
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 300, (4, 17), generator=generator)

    def step(called: Any) -> tuple[float, list[Tensor]]:
        model.zero_grad(set_to_none=True)
        loss = called(rows[:, :-1], rows[:, 1:], eos=0, dropout_keys=torch.arange(4))
        loss.backward()
        return loss.item(), [p.grad.clone() for p in model.parameters() if p.grad is not None]

    plain, gradients = step(model)
    called: Any = model
    if blocks:
        for block in model.blocks:
            block.compile()
    else:
        called = torch.compile(model, backend="aot_eager", fullgraph=True)
    compiled, others = step(called)
    assert compiled == pytest.approx(plain, rel=1e-5)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
