"""The gated recurrent unit (Cho et al. 2014, arXiv:1406.1078), in the variant of ``torch.nn.GRU``.

    r, z = sigmoid(W x_t + b + U h_(t-1) + c)        two gates: reset and update
    n    = tanh(W x_t + b + r (U h_(t-1) + c))       the new state, which may ignore the old one
    h_t  = (1 - z) n + z h_(t-1)

The reset gate multiplies U h + c, not h as in the paper, so that all products with h are one. Each of
r, z, n has matrices of its own, stacked in this order. Shape letters as in ``lm.models.neural_lm``.
"""

import torch
from torch import Tensor

from lm.models.recurrent.layer import RecurrentLayer
from lm.models.recurrent.model import Recurrent
from lm.models.recurrent.sections import RecurrentConfig


class GRULayer(RecurrentLayer):
    """The recurrence of ``torch.nn.GRU``."""

    gates = 3

    def scan(
        self, x_btd: Tensor, start: tuple[Tensor, ...], weights: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """Return the states after each input, float[B, T, D], and the last, float[1, B, D]."""
        return torch.gru(
            x_btd, start[0], weights, True, 1, 0.0, torch.is_grad_enabled(), False, True
        )


def build_model(config: RecurrentConfig) -> Recurrent:
    """Return a model with fresh weights, drawn from torch's generator."""
    return Recurrent(config, [GRULayer(config.hidden_size) for _ in range(config.num_layers)])
