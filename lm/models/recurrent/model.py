"""What the recurrent families share: a stack of recurrent layers between an embedding and a head.

A family defines its layer's recurrence, ``h_t = f(x_t, h_(t-1))``. The state is zero at the start of
every row, and of every document if they are masked. Shape letters as in ``lm.models.causal_lm``.
"""

import math
from abc import abstractmethod
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lm.models.causal_lm import CausalLM
from lm.models.documents import Documents
from lm.models.dropout import dropout, site_keys
from lm.models.recurrent.sections import RecurrentConfig


class RecurrentLayer(nn.Module):
    """One layer: the parameters, as ``nn.RNN``, ``nn.LSTM`` and ``nn.GRU`` name and stack them.

    Attributes:
        gates: G, how many matrices of D rows are stacked.
        weight_ih: float[G D, D], by which the input is multiplied.
        weight_hh: float[G D, D], by which the state is multiplied.
    """

    gates: ClassVar[int]

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

    def weights(self) -> tuple[Tensor, ...]:
        """Return the weights in the order in which torch's functions take them."""
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh

    def weight_matrices(self) -> list[tuple[Tensor, list[int]]]:
        """Return the matrices, and the rows of those that each is stacked from."""
        rows = [self.weight_hh.shape[1]] * self.gates
        return [(self.weight_ih, rows), (self.weight_hh, rows)]

    @abstractmethod
    def scan(self, x_btd: Tensor, zero_bd: Tensor) -> Tensor:
        """Return the states after each input, float[B, T, D], from the state ``zero_bd``."""

    def forward(
        self,
        x_btd: Tensor,
        documents: Documents | None,
        dropout_keys_b: Tensor | None,
        dropout_p: float,
    ) -> Tensor:
        """Return the layer's states for the next layer, float[B, T, D]."""
        rows = x_btd if documents is None else documents.split(x_btd)
        states = self.scan(rows, rows.new_zeros(1, rows.shape[0], rows.shape[2]))
        states_btd = states if documents is None else documents.join(states)
        return dropout(states_btd, dropout_keys_b, dropout_p)


class Recurrent(CausalLM):
    """A recurrent language model (Mikolov et al. 2010)."""

    config: RecurrentConfig

    def __init__(self, config: RecurrentConfig, layers: list[RecurrentLayer]) -> None:
        super().__init__(config, list[nn.Module](layers), nn.Identity())
        self.init_weights()

    def init_weights(self) -> None:
        """Draw the embedding and the head from uniform(-0.1, 0.1) (Zaremba et al. 2014, 1409.2329)."""
        for weight in {self.embed.weight, self.head.weight}:
            nn.init.uniform_(weight, -0.1, 0.1)
        for layer in self.blocks:
            cast("RecurrentLayer", layer).init_weights()

    def weight_matrices(self) -> list[tuple[Tensor, list[int]]]:
        """Return the layers' matrices, and the rows of those that each is stacked from."""
        layers = (cast("RecurrentLayer", layer) for layer in self.blocks)
        return [pair for layer in layers for pair in layer.weight_matrices()]

    def flops_per_token(self) -> float:
        """Return ``6 N``, where N counts the layers' matrices and the head."""
        layers = sum(matrix.numel() for matrix, _ in self.weight_matrices())
        return 6.0 * (layers + self.config.vocab_size * self.config.hidden_size)

    def hidden_states(
        self, tokens_bt: Tensor, eos: int | None = None, dropout_keys_b: Tensor | None = None
    ) -> Tensor:
        """Return the last layer's states, float[B, T, D]."""
        documents = None if eos is None else Documents.find(tokens_bt, eos)
        keys = [
            None if dropout_keys_b is None else site_keys(dropout_keys_b, site)
            for site in range(len(self.blocks) + 1)
        ]
        x_btd = dropout(self.embed(tokens_bt), keys[0], self.dropout)
        for layer, key in zip(self.blocks, keys[1:], strict=True):
            inputs = documents, key, self.dropout
            if self.activation_checkpointing and torch.is_grad_enabled():
                x_btd = cast("Tensor", checkpoint(layer, x_btd, *inputs, use_reentrant=False))
            else:
                x_btd = layer(x_btd, *inputs)
        return cast("Tensor", self.norm(x_btd))
