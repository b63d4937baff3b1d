"""Norm penalties on what decays, added to the gradient."""

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def add_penalty_gradients(weights: Iterable[Tensor], l1: float, l2: float) -> None:
    """Add the gradient of ``l1 sum |w| + l2/2 sum w^2``.

    Unlike ``weight_decay``, which shrinks weights apart from the gradient (Loshchilov & Hutter
    2019, arXiv:1711.05101), these pass through clipping and the optimizer's averages.
    """
    for weight in weights:
        assert weight.grad is not None
        if l1:
            weight.grad.add_(weight.sign(), alpha=l1)
        if l2:
            weight.grad.add_(weight, alpha=l2)
