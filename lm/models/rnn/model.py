"""The simple recurrent network (Elman 1990): ``h_t = tanh(W x_t + b + U h_(t-1) + c)``.

Its gradient through T steps is a product of T Jacobians, which vanishes or grows (Bengio et al.
1994): it remembers some ten tokens. Shape letters as in ``lm.models.neural_lm``.
"""

import torch
from torch import Tensor

from lm.models.recurrent.layer import RecurrentLayer
from lm.models.recurrent.model import Recurrent
from lm.models.recurrent.sections import RecurrentConfig


class RNNLayer(RecurrentLayer):
    """The recurrence of ``torch.nn.RNN``."""

    gates = 1

    def scan(
        self, x_btd: Tensor, start: tuple[Tensor, ...], weights: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """Return the states after each input, float[B, T, D], and the last, float[1, B, D]."""
        return torch.rnn_tanh(
            x_btd, start[0], weights, True, 1, 0.0, torch.is_grad_enabled(), False, True
        )


def build_model(config: RecurrentConfig) -> Recurrent:
    """Return a model with fresh weights, drawn from torch's generator."""
    return Recurrent(config, [RNNLayer(config.hidden_size) for _ in range(config.num_layers)])
