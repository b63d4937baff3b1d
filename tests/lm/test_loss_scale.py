import torch

from lm.optim.loss_scale import GROWTH_INTERVAL, INITIAL_SCALE, LossScale


def test_the_scale_falls_on_overflow_and_rises_after_a_long_while() -> None:
    scale, fine = LossScale(), torch.tensor(1.0)
    assert not scale.update(torch.tensor(float("inf")))
    assert not scale.update(torch.tensor(float("nan")))
    assert scale.value == INITIAL_SCALE / 4
    assert all(scale.update(fine) for _ in range(GROWTH_INTERVAL - 1))
    again = LossScale()
    again.load_state_dict(scale.state_dict())
    assert again.value == INITIAL_SCALE / 4
    assert again.update(fine)
    assert again.value == INITIAL_SCALE / 2


def test_gradients_come_back_to_their_size() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    scale = LossScale()
    ((weight * torch.tensor([1.0, 2.0, 3.0])).sum() * scale.value).backward()
    scale.unscale([weight])
    assert weight.grad is not None
    assert weight.grad.tolist() == [1.0, 2.0, 3.0]
