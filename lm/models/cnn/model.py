"""Causal gated convolutions (Dauphin et al. 2017, arXiv:1612.08083).

A block adds ``(x * W + b) sigmoid(x * V + c)`` to the residual stream, where ``*`` is a convolution over
the last K positions: a linear path for the gradient, and a gate that decides what passes. The input of
a block is normalized (Zhang & Sennrich 2019), where the paper normalizes the weights. Shape letters as
in ``lm.models.neural_lm``, and K the kernel size.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

from lm.models.cnn.config import ConvolutionConfig
from lm.models.documents import Documents
from lm.models.dropout import dropout, site_keys
from lm.models.neural_lm import NeuralLM


class Block(nn.Module):
    """A gated convolution, normalized before and added to the residual stream."""

    def __init__(self, config: ConvolutionConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.kernel_size = config.kernel_size
        self.norm = nn.RMSNorm(size, config.norm_eps)
        # The matrices W and V, stacked; columns are the K positions' inputs, the oldest first.
        self.conv = nn.Linear(config.kernel_size * size, 2 * size)

    def weight_matrices(self) -> list[tuple[Tensor, list[int]]]:
        """Return the block's matrix, and the rows of those that it is stacked from."""
        return [(self.conv.weight, [self.conv.out_features // 2] * 2)]

    def forward(
        self,
        x_btd: Tensor,
        positions: Tensor,
        dropout_keys_b: Tensor | None,
        dropout_p: float,
    ) -> Tensor:
        """Return the residual stream after the block, float[B, T, D]."""
        windows = causal_windows(self.norm(x_btd), positions, self.kernel_size)
        return x_btd + dropout(F.glu(self.conv(windows)), dropout_keys_b, dropout_p)


def causal_windows(x_btd: Tensor, positions: Tensor, size: int) -> Tensor:
    """Return the inputs at each position and the ``size - 1`` before it, float[B, T, K D].

    Zeros stand for what is before the start of the text.

    Args:
        x_btd: the inputs.
        positions: int64[T] or int64[B, T], counted from the start of the text.
        size: K.
    """
    time = x_btd.shape[1]
    padded = F.pad(x_btd, (0, 0, size - 1, 0))
    shifted = []
    for back in range(size - 1, -1, -1):
        start = size - 1 - back
        known = (positions >= back).unsqueeze(-1)
        shifted.append(padded[:, start : start + time] * known)
    return torch.cat(shifted, dim=-1)


class GatedCNN(NeuralLM):
    """The convolutional language model."""

    config: ConvolutionConfig

    def __init__(self, config: ConvolutionConfig) -> None:
        norm = nn.RMSNorm(config.hidden_size, config.norm_eps)
        super().__init__(config, [Block(config) for _ in range(config.num_layers)], norm)
        self.init_weights()

    def init_weights(self) -> None:
        """Draw embedding and head from normal(0, 0.02), convolutions so that variance is kept."""
        for weight in {self.embed.weight, self.head.weight}:
            nn.init.normal_(weight, std=0.02)
        for block in self.blocks:
            conv = cast("Block", block).conv
            nn.init.normal_(conv.weight, std=1 / math.sqrt(conv.in_features))
            nn.init.zeros_(conv.bias)

    def weight_matrices(self) -> list[tuple[Tensor, list[int]]]:
        """Return the blocks' matrices, and the rows of those that each is stacked from."""
        return [pair for block in self.blocks for pair in cast("Block", block).weight_matrices()]

    def flops_per_token(self) -> float:
        """Return ``6 N``, where N counts the blocks' matrices and the head."""
        blocks = sum(matrix.numel() for matrix, _ in self.weight_matrices())
        return 6.0 * (blocks + self.config.vocab_size * self.config.hidden_size)

    def hidden_states(
        self, tokens_bt: Tensor, eos: int | None = None, dropout_keys_b: Tensor | None = None
    ) -> Tensor:
        """Return the residual stream after the last norm, float[B, T, D]."""
        if eos is None:
            positions = torch.arange(tokens_bt.shape[1], device=tokens_bt.device)
        else:
            positions = Documents.find(tokens_bt, eos).position
        keys = [
            None if dropout_keys_b is None else site_keys(dropout_keys_b, site)
            for site in range(len(self.blocks) + 1)
        ]
        x_btd = dropout(self.embed(tokens_bt), keys[0], self.dropout)
        for block, key in zip(self.blocks, keys[1:], strict=True):
            inputs = positions, key, self.dropout
            if self.activation_checkpointing and torch.is_grad_enabled():
                x_btd = cast("Tensor", checkpoint(block, x_btd, *inputs, use_reentrant=False))
            else:
                x_btd = block(x_btd, *inputs)
        return cast("Tensor", self.norm(x_btd))


def build_model(config: ConvolutionConfig) -> GatedCNN:
    """Return a model with fresh weights, drawn from torch's generator."""
    return GatedCNN(config)
