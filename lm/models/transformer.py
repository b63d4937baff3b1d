"""What all Transformers of one stack share: the residual stream through blocks of attention.

Shape letters as in ``lm.models.neural_lm``, and H query heads, K key/value heads, E head size,
F hidden size of the feed-forward network.
"""

import math
from abc import abstractmethod
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lm.models.attention import Segments, sinusoidal_table
from lm.models.dropout import dropout, site_keys
from lm.models.neural_lm import NeuralLM


class Transformer(NeuralLM):
    """A stack of blocks between an embedding and a head (Vaswani et al. 2017, arXiv:1706.03762).

    A block is called as ``block(x_btd, block_extras, segments, dropout_keys, dropout_p)``.
    """

    _sines: Tensor | None = None  # no weight, and no buffer: it follows from the sizes

    def init_weights(self) -> None:
        """Draw weights by GPT-2's rule: normal(0, 0.02), residual outputs by 1/sqrt(2 layers)."""
        residual_std = 0.02 / math.sqrt(2 * len(self.blocks))
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                is_residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=residual_std if is_residual else 0.02)

    def weight_matrices(self) -> list[tuple[Tensor, list[int]]]:
        """Return the blocks' matrices, and the rows of those that each is stacked from."""
        return [pair for block in self.blocks for pair in cast("Any", block).weight_matrices()]

    def position_vectors(self, positions: Tensor) -> Tensor:
        """Return the learned or the sinusoidal vectors of positions, for models that add them."""
        model = cast("Any", self)  # whose settings have `positions`
        if model.config.positions == "learned":
            return cast("Tensor", model.position_embedding(positions))
        if self._sines is None or self._sines.device != positions.device:
            table = sinusoidal_table(self.config.context_length, self.config.hidden_size)
            self._sines = table.to(positions.device)
        return self._sines[positions]

    @abstractmethod
    def segments(self, tokens_bt: Tensor, eos: int | None) -> Segments:
        """Return which positions may attend to which; ``eos`` as in ``forward``."""

    @abstractmethod
    def embed_inputs(self, tokens_bt: Tensor, segments: Segments) -> tuple[Tensor, Any]:
        """Return the residual stream before the first block, and each block's ``block_extras``."""

    def hidden_states(
        self, tokens_bt: Tensor, eos: int | None = None, dropout_keys_b: Tensor | None = None
    ) -> Tensor:
        """Return the residual stream after the last norm, float[B, T, D]."""
        x_btd = self.run_blocks(tokens_bt, self.segments(tokens_bt, eos), dropout_keys_b)
        return cast("Tensor", self.norm(x_btd))

    def run_blocks(
        self, tokens_bt: Tensor, segments: Segments, dropout_keys_b: Tensor | None
    ) -> Tensor:
        """Return the residual stream after the last block, float[B, T, D]."""
        x_btd, block_extras = self.embed_inputs(tokens_bt, segments)
        # One key for the embedding and two per block. A block gets its keys as an argument: an
        # index of its own would be a constant, and torch.compile would compile each block anew.
        sites = range(2 * len(self.blocks) + 1)
        keys = [
            None if dropout_keys_b is None else site_keys(dropout_keys_b, site) for site in sites
        ]
        x_btd = dropout(x_btd, keys[0], self.dropout)
        for index, block in enumerate(self.blocks):
            inputs = block_extras, segments, keys[2 * index + 1 : 2 * index + 3], self.dropout
            if self.activation_checkpointing and torch.is_grad_enabled():
                x_btd = cast("Tensor", checkpoint(block, x_btd, *inputs, use_reentrant=False))
            else:
                x_btd = block(x_btd, *inputs)
        return x_btd
