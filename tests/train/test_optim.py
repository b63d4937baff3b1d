import pytest
import torch

from tasks.train.model import Decoder, Shape
from tasks.train.optim import Muon, build_optimizers, learning_rate, orthogonal
from tests.train.corpora import tiny


@pytest.mark.parametrize("shape", [(16, 16), (8, 48), (48, 8)])
def test_an_orthogonalised_update_moves_every_direction_alike(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_stacked_matrices_are_orthogonalised_apart() -> None:
    torch.manual_seed(0)
    matrix = torch.nn.Parameter(torch.zeros(24, 16))
    matrix.grad = torch.randn(24, 16)
    Muon([(matrix, [8, 16])], lr=1.0, weight_decay=0.0, momentum=0.0).step()
    for part, gradient in zip(matrix.split([8, 16]), matrix.grad.split([8, 16]), strict=True):
        torch.testing.assert_close(part, -orthogonal(gradient) * 0.2 * 4.0)


def test_the_rate_rises_peaks_and_falls() -> None:
    config = tiny(tokens=100 * 128, warmup=0.1, min_ratio=0.1, learning_rate=1.0)
    rates = [learning_rate(step, config) for step in range(config.steps)]
    assert config.steps == 100
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert max(rates) == rates[10] == 1.0
    assert 0.1 < rates[-1] < 0.101
    assert 0 < rates[0] < 0.1


@pytest.mark.parametrize(
    ("name", "optimizers"), [("muon", {"muon", "adamw"}), ("adamw", {"adamw"})]
)
def test_every_weight_has_one_optimizer_and_only_matrices_decay(
    name: str, optimizers: set[str]
) -> None:
    model = Decoder(Shape(50, 2, 16, 2, 1, 32, 8))
    built = build_optimizers(model, tiny(optimizer=name), torch.float32)
    assert built.keys() == optimizers
    groups = [group for optimizer in built.values() for group in optimizer.param_groups]
    owned = [id(weight) for group in groups for weight in group["params"]]
    assert sorted(owned) == sorted(map(id, model.parameters()))
    decayed = {id(w) for group in groups if group["weight_decay"] for w in group["params"]}
    assert decayed == {id(matrix) for matrix, _ in model.matrices()}
