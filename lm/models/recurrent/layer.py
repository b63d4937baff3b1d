"""A recurrent layer: its parameters, and how dropout and documents act on it. Shape letters as in ``lm.models.neural_lm``."""

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from lm.models.documents import Documents
from lm.models.dropout import drop_weights, dropout, variational_dropout


class RecurrentLayer(nn.Module):
    """One layer: the parameters, as ``nn.RNN``, ``nn.LSTM`` and ``nn.GRU`` name and stack them.

    Attributes:
        gates: G, how many matrices of D rows are stacked.
        state_tensors: K, how many vectors of width D the state consists of.
        weight_ih: float[G D, D], by which the input is multiplied.
        weight_hh: float[G D, D], by which the state is multiplied.
        weight_drop: fraction of ``weight_hh`` that a step of training drops.
        variational: whether dropout is the same at all positions of a sample.
    """

    gates: ClassVar[int]
    state_tensors: ClassVar[int] = 1
    weight_drop: float = 0.0
    variational: bool = False

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight_ih, self.weight_hh = (
            nn.Parameter(torch.empty(self.gates * size, size)) for _ in range(2)
        )
        self.bias_ih, self.bias_hh = (
            nn.Parameter(torch.empty(self.gates * size)) for _ in range(2)
        )

    def init_weights(self) -> None:
        """Draw all weights from uniform(-1/sqrt(D), 1/sqrt(D)), as torch does."""
        bound = 1 / math.sqrt(self.weight_hh.shape[1])
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def weights(self, dropout_keys_b: Tensor | None) -> tuple[Tensor, ...]:
        """Return the weights in the order in which torch's functions take them."""
        weight_hh: Tensor = self.weight_hh
        if dropout_keys_b is not None and self.weight_drop:
            weight_hh = drop_weights(weight_hh, dropout_keys_b, self.weight_drop)
        return self.weight_ih, weight_hh, self.bias_ih, self.bias_hh

    def weight_matrices(self) -> list[tuple[Tensor, list[int]]]:
        """Return the matrices, and the rows of those that each is stacked from."""
        rows = [self.weight_hh.shape[1]] * self.gates
        return [(self.weight_ih, rows), (self.weight_hh, rows)]

    @abstractmethod
    def scan(
        self, x_btd: Tensor, start: tuple[Tensor, ...], weights: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        """Return the states after each input, float[B, T, D], and K tensors: the state after the last.

        ``start``: K tensors, float[1, B, D], the state before the first input.
        """

    def forward(
        self,
        x_btd: Tensor,
        documents: Documents | None,
        dropout_keys_b: Tensor | None,
        dropout_p: float,
        start_bkd: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the layer's states, float[B, T, D], as they are and after dropout, and the last one.

        ``start_bkd``, float[B, K, D], is the state before the first input, zero by default; the last
        one has its form and no gradient, and is of use where no row is divided into documents.
        """
        rows = x_btd if documents is None else documents.split(x_btd)
        if start_bkd is None:
            start_bkd = rows.new_zeros(rows.shape[0], self.state_tensors, rows.shape[2])
        start = tuple(tensor[None].contiguous() for tensor in start_bkd.unbind(1))
        states, *end = self.scan(rows, start, self.weights(dropout_keys_b))
        states_btd = states if documents is None else documents.join(states)
        drop = variational_dropout if self.variational else dropout
        return (
            states_btd,
            drop(states_btd, dropout_keys_b, dropout_p),
            torch.cat(end).detach().transpose(0, 1),
        )
