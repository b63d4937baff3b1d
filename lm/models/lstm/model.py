"""Long short-term memory (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    i, f, o = sigmoid(W x_t + b + U h_(t-1) + c)   three gates: what enters, stays and leaves
    g       = tanh(W x_t + b + U h_(t-1) + c)      what could be stored
    c_t     = f c_(t-1) + i g                      the cell: a sum, through which gradients pass
    h_t     = o tanh(c_t)

Each of i, f, g, o has matrices of its own, stacked in this order, as in ``torch.nn.LSTM``.
Shape letters as in ``lm.models.neural_lm``.
"""

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from lm.models.recurrent.layer import RecurrentLayer
from lm.models.recurrent.model import Recurrent
from lm.models.recurrent.sections import RecurrentConfig


class LSTMLayer(RecurrentLayer):
    """The recurrence of ``torch.nn.LSTM``."""

    gates, state_tensors = 4, 2

    def init_weights(self) -> None:
        """As all layers; the forget gate starts at sigmoid(1) (Jozefowicz et al. 2015, section 2.2)."""
        super().init_weights()
        size = self.weight_hh.shape[1]
        with torch.no_grad():
            nn.init.ones_(self.bias_ih[size : 2 * size])
            nn.init.zeros_(self.bias_hh[size : 2 * size])

    def scan(
        self, x_btd: Tensor, start: tuple[Tensor, ...], weights: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """Return h after each input, float[B, T, D], and the last h and c, float[1, B, D] each."""
        # A CPU has a kernel for this recurrence in fp32 and bf16, but not in fp16.
        kind = x_btd.device.type
        in_fp16 = (
            torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16
        )
        with torch.autocast(kind, enabled=False) if kind == "cpu" and in_fp16 else nullcontext():
            return torch.lstm(
                x_btd, start, weights, True, 1, 0.0, torch.is_grad_enabled(), False, True
            )


def build_model(config: RecurrentConfig) -> Recurrent:
    """Return a model with fresh weights, drawn from torch's generator."""
    return Recurrent(config, [LSTMLayer(config.hidden_size) for _ in range(config.num_layers)])
