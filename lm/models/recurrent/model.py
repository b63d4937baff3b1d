"""What the recurrent families share: a stack of recurrent layers between an embedding and a head.

A family defines its layer's recurrence, ``h_t = f(x_t, h_(t-1))``. The state is zero at the start of
every row, and of every document if they are masked; or a row starts from the state that the row at its
place in the batch before ended with (``carry_state``). Training can be regularized as AWD-LSTM (Merity et
al. 2018, arXiv:1708.02182). Shape letters as in ``lm.models.neural_lm``.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lm.config.loop import LoopConfig
from lm.models.documents import Documents
from lm.models.dropout import dropout, site_keys, variational_dropout
from lm.models.neural_lm import NeuralLM
from lm.models.recurrent.layer import RecurrentLayer
from lm.models.recurrent.sections import (
    RecurrentConfig,
    RecurrentEntry,
    RecurrentRegularization,
)


class Recurrent(NeuralLM):
    """A recurrent language model (Mikolov et al. 2010)."""

    config: RecurrentConfig
    regularization: RecurrentRegularization
    carry_state: bool = False

    def __init__(self, config: RecurrentConfig, layers: list[RecurrentLayer]) -> None:
        super().__init__(config, list[nn.Module](layers), nn.Identity(), head_bias=True)
        self.regularization = RecurrentRegularization()
        self.init_weights()

    def prepare_training(self, config: LoopConfig) -> None:
        """Set the regularization, too; an entry of `finetune` has none of recurrent weights."""
        super().prepare_training(config)
        if not isinstance(config, RecurrentEntry):
            return
        self.regularization = config.regularization
        self.carry_state = config.carries_state
        for layer in self.blocks:
            recurrent = cast("RecurrentLayer", layer)
            recurrent.weight_drop = config.regularization.weight_drop
            recurrent.variational = config.regularization.variational

    def init_weights(self) -> None:
        """Draw the embedding and the head from uniform(-0.1, 0.1) (Zaremba et al. 2014, 1409.2329); no bias."""
        for weight in {self.embed.weight, self.head.weight}:
            nn.init.uniform_(weight, -0.1, 0.1)
        nn.init.zeros_(self.head.bias)
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

    def initial_state(self, sequences: int) -> Tensor | None:
        """Return zeros, float[sequences, layers, K, D], if the state is carried from batch to batch."""
        if not self.carry_state:
            return None
        layers, (first, *_) = len(self.blocks), self.blocks
        tensors = cast("RecurrentLayer", first).state_tensors
        size, device = self.config.hidden_size, self.embed.weight.device
        return torch.zeros(sequences, layers, tensors, size, device=device)

    def hidden_states(
        self, tokens_bt: Tensor, eos: int | None = None, dropout_keys_b: Tensor | None = None
    ) -> Tensor:
        """Return the last layer's states, float[B, T, D]."""
        return self._run_layers(tokens_bt, eos, dropout_keys_b, None)[1]

    def forward(
        self,
        tokens_bt: Tensor,
        targets_bt: Tensor | None = None,
        *,
        positions: Tensor | None = None,
        eos: int | None = None,
        dropout_keys: Tensor | None = None,
        label_smoothing: float = 0.0,
        state: Tensor | None = None,
    ) -> Tensor:
        """See ``NeuralLM``; in training the summed loss includes the penalties of the states.

        ``state`` is as ``initial_state`` returns it; it is overwritten with the state after the last input.
        """
        states_btd, hidden_btd = self._run_layers(tokens_bt, eos, dropout_keys, state)
        loss = self.predict(hidden_btd, targets_bt, positions, label_smoothing)
        ar, tar = self.regularization.ar, self.regularization.tar
        if targets_bt is None or dropout_keys is None or not (ar or tar):
            return loss
        assert positions is None  # each position is predicted
        # As sums over the counted positions, so that the loss per token has them as means.
        counted_bt = targets_bt >= 0
        squares_bt = hidden_btd.float().square().mean(-1)
        changes_bt = states_btd.float().diff(dim=1).square().mean(-1)
        if eos is not None:  # not from one document to the next
            changes_bt = changes_bt * (tokens_bt[:, 1:] != eos)
        penalty = (
            ar * (squares_bt * counted_bt).sum() + tar * (changes_bt * counted_bt[:, 1:]).sum()
        )
        return loss + penalty

    def _run_layers(
        self,
        tokens_bt: Tensor,
        eos: int | None,
        dropout_keys_b: Tensor | None,
        state_blkd: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Return the last layer's states, float[B, T, D], as they are and after dropout."""
        documents = None if eos is None else Documents.find(tokens_bt, eos)
        keys = [
            None if dropout_keys_b is None else site_keys(dropout_keys_b, site)
            for site in range(len(self.blocks) + 1)
        ]
        drop = variational_dropout if self.regularization.variational else dropout
        x_btd = states_btd = drop(self.embed(tokens_bt), keys[0], self.dropout)
        # Copied: the backward pass needs the states that the layers started from.
        starts: list[Tensor | None] = [None] * len(self.blocks)
        if state_blkd is not None:
            starts = list(state_blkd.clone().unbind(1))
        ends = []
        for layer, key, start in zip(self.blocks, keys[1:], starts, strict=True):
            inputs = documents, key, self.dropout, start
            if self.activation_checkpointing and torch.is_grad_enabled():
                states_btd, x_btd, end = checkpoint(layer, x_btd, *inputs, use_reentrant=False)
            else:
                states_btd, x_btd, end = layer(x_btd, *inputs)
            ends.append(end)
        if state_blkd is not None:
            state_blkd.copy_(torch.stack(ends, dim=1))
        return states_btd, x_btd
