from itertools import pairwise

import pytest
import torch

from lm.models.decoder.sections import DecoderConfig
from lm.models.registry import build_model
from lm.optim.optimizers import (
    Muon,
    add_penalty_gradients,
    build_optimizers,
    learning_rate,
    newton_schulz,
)
from tests.lm.corpora import tiny


@pytest.mark.parametrize("shape", [(16, 16), (8, 48), (48, 8)])
def test_an_orthogonalised_update_moves_every_direction_alike(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(newton_schulz(torch.randn(shape), torch.float32))
    assert values.min() > 0.5
    assert values.max() < 1.3


@pytest.mark.parametrize("size", [1.0, 1e-7])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_small_gradients_are_orthogonalised_as_large_ones(dtype: torch.dtype, size: float) -> None:
    torch.manual_seed(0)
    gradient = torch.randn(64, 64)
    exact = newton_schulz(gradient, torch.float32)
    found = newton_schulz(gradient * size, dtype).float()
    assert ((found - exact).norm() / exact.norm()).item() < 0.03


def test_stacked_matrices_are_orthogonalised_apart() -> None:
    torch.manual_seed(0)
    matrix = torch.nn.Parameter(torch.zeros(24, 16))
    matrix.grad = torch.randn(24, 16)
    Muon([(matrix, [8, 16])], lr=1.0, weight_decay=0.0, momentum=0.0).step()
    for part, gradient in zip(matrix.split([8, 16]), matrix.grad.split([8, 16]), strict=True):
        torch.testing.assert_close(part, -newton_schulz(gradient, torch.float32) * 0.2 * 4.0)


def test_the_rate_rises_peaks_and_falls() -> None:
    config = tiny(train_tokens=100 * 128, warmup_fraction=0.1, min_lr_fraction=0.1, lr=1.0)
    rates = [learning_rate(step, config) for step in range(config.steps)]
    assert config.steps == 100
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert max(rates) == rates[10] == 1.0
    assert 0.1 < rates[-1] < 0.101
    assert 0 < rates[0] < 0.1


def rates_of(schedule: str, **changes: float) -> list[float]:
    values = {"schedule": schedule, "train_tokens": 100 * 128, "warmup_fraction": 0.1, "lr": 1.0}
    config = tiny(**values, **changes)
    return [learning_rate(step, config) for step in range(config.steps)]


def test_wsd_stays_level_and_then_falls_by_a_root() -> None:
    rates = rates_of("wsd", decay_fraction=0.2)
    assert rates[10:81] == [1.0] * 71
    assert rates[85] == pytest.approx(1 - (5 / 20) ** 0.5)
    assert rates[80:] == sorted(rates[80:], reverse=True)


def test_linear_falls_evenly() -> None:
    rates = rates_of("linear", min_lr_fraction=0.1)
    steps = {round(a - b, 9) for a, b in pairwise(rates[10:])}
    assert steps == {0.01}


def test_penalties_are_the_gradients_of_the_norms() -> None:
    weight = torch.nn.Parameter(torch.tensor([[1.0, -2.0], [0.0, 3.0]]))
    (0.5 * weight.abs().sum() + 0.25 / 2 * weight.square().sum()).backward()
    expected = weight.grad
    weight.grad = torch.zeros(2, 2)
    add_penalty_gradients([weight], l1=0.5, l2=0.25)
    torch.testing.assert_close(weight.grad, expected)


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_embeddings_decay_if_asked_for_and_norms_and_biases_never(name: str) -> None:
    model = build_model(DecoderConfig(50, 2, 16, 2, 2, 32, 8, architecture="gpt2", bias=True))
    built = build_optimizers(
        model, tiny(optimizer=name, weight_decay_embeddings=True), torch.float32
    )
    groups = [group for optimizer in built.values() for group in optimizer.param_groups]
    decayed = {id(w) for group in groups if group["weight_decay"] for w in group["params"]}
    assert decayed == {id(w) for w in model.parameters() if w.dim() == 2}


@pytest.mark.parametrize(
    ("name", "optimizers"), [("muon", {"muon", "adamw"}), ("adamw", {"adamw"})]
)
def test_every_weight_has_one_optimizer_and_only_matrices_decay(
    name: str, optimizers: set[str]
) -> None:
    model = build_model(DecoderConfig(50, 2, 16, 2, 1, 32, 8))
    built = build_optimizers(model, tiny(optimizer=name), torch.float32)
    assert built.keys() == optimizers
    groups = [group for optimizer in built.values() for group in optimizer.param_groups]
    owned = [id(weight) for group in groups for weight in group["params"]]
    assert sorted(owned) == sorted(map(id, model.parameters()))
    decayed = {id(w) for group in groups if group["weight_decay"] for w in group["params"]}
    assert decayed == {id(matrix) for matrix, _ in model.weight_matrices()}
