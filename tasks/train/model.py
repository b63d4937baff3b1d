"""A decoder in Llama's layout: RMSNorm, rotary positions, grouped queries, SwiGLU.

Follows Touvron et al. 2023 (arXiv:2302.13971) and, to the bit of its conventions (rotate-half
rotary pairs, norm in fp32, no biases), ``transformers.LlamaForCausalLM``, so that a checkpoint
exports by renaming. The model knows nothing of devices, processes or data.

Shape letters: B sequences, T positions, D width, H query heads, K key/value heads, E head width,
F hidden width of the feed-forward, V vocabulary.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from tasks.train.attention import causal_attention, rotary_table, rotate
from tasks.train.loss import cross_entropy


@dataclass(frozen=True)
class Shape:
    """What fixes a decoder's parameters and its function."""

    vocabulary: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    hidden: int
    context: int
    tied: bool = True
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5

    @property
    def head_width(self) -> int:
        """E: the width of one attention head."""
        return self.width // self.heads


class Norm(nn.Module):
    """Root mean square normalisation (Zhang & Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """``x / rms(x) * weight`` over the last axis, worked out in fp32."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Block(nn.Module):
    """Attention and feed-forward, each normalised before and added to the residual stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        s, e = shape, shape.head_width
        self.heads, self.kv_heads, self.head_width = s.heads, s.kv_heads, e
        self.attention_norm = Norm(s.width, s.norm_eps)
        self.qkv = nn.Linear(s.width, (s.heads + 2 * s.kv_heads) * e, bias=False)
        self.out = nn.Linear(s.heads * e, s.width, bias=False)
        self.mlp_norm = Norm(s.width, s.norm_eps)
        self.gate_up = nn.Linear(s.width, 2 * s.hidden, bias=False)
        self.down = nn.Linear(s.hidden, s.width, bias=False)

    def matrices(self) -> list[tuple[Tensor, list[int]]]:
        """The block's matrices, and the rows of those that each is stacked from."""
        kv, width = self.kv_heads * self.head_width, self.heads * self.head_width
        stacked = (self.qkv, [width, kv, kv]), (self.gate_up, [self.down.in_features] * 2)
        whole = ((layer, [layer.out_features]) for layer in (self.out, self.down))
        return [(layer.weight, rows) for layer, rows in (*stacked, *whole)]

    def forward(self, x_btd: Tensor, cos_te: Tensor, sin_te: Tensor) -> Tensor:
        """The residual stream after the block, float[B, T, D]."""
        x_btd = x_btd + self.attend(self.attention_norm(x_btd), cos_te, sin_te)
        gate_btf, up_btf = self.gate_up(self.mlp_norm(x_btd)).chunk(2, dim=-1)
        return x_btd + cast("Tensor", self.down(F.silu(gate_btf) * up_btf))

    def attend(self, x_btd: Tensor, cos_te: Tensor, sin_te: Tensor) -> Tensor:
        """What attention adds to the residual stream, float[B, T, D]."""
        batch, time, _ = x_btd.shape
        heads = self.qkv(x_btd).view(batch, time, -1, self.head_width).transpose(1, 2)
        rotated = rotate(heads[:, : self.heads + self.kv_heads], cos_te, sin_te)
        q, k = rotated.split((self.heads, self.kv_heads), dim=1)
        v = heads[:, self.heads + self.kv_heads :]
        mixed = causal_attention(q, k, v)
        return cast("Tensor", self.out(mixed.transpose(1, 2).reshape(batch, time, -1)))


class Decoder(nn.Module):
    """Token ids in, logits or the summed loss out."""

    _rotary: tuple[Tensor, Tensor] | None = None

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.width, shape.norm_eps)
        self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)
        if shape.tied:
            self.head.weight = self.embed.weight
        self.initialise()

    def initialise(self) -> None:
        """GPT-2's rule: normal(0, 0.02), projections into the residual by 1/sqrt(2 layers)."""
        into_residual = 0.02 / math.sqrt(2 * self.shape.layers)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                scaled = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=into_residual if scaled else 0.02)

    def matrices(self) -> list[tuple[Tensor, list[int]]]:
        """All blocks' matrices, as ``Block.matrices`` gives them."""
        return [pair for block in self.blocks for pair in cast("Block", block).matrices()]

    def hidden(self, tokens_bt: Tensor) -> Tensor:
        """The residual stream after the last norm, float[B, T, D]."""
        x_btd = self.embed(tokens_bt)
        cos_te, sin_te = (table[: tokens_bt.shape[1]] for table in self.rotary(x_btd.device))
        for block in self.blocks:
            x_btd = block(x_btd, cos_te, sin_te)
        return cast("Tensor", self.norm(x_btd))

    def rotary(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """``rotary_table`` on the device: no buffer, for it is the same in every process."""
        if self._rotary is None or self._rotary[0].device != device:
            s = self.shape
            cos_te, sin_te = rotary_table(s.head_width, s.context, s.rope_theta)
            self._rotary = cos_te.to(device), sin_te.to(device)
        return self._rotary

    def forward(self, tokens_bt: Tensor, targets_bt: Tensor | None = None) -> Tensor:
        """Logits float[B, T, V], or, given targets int64[B, T], their summed loss in nats.

        Targets below zero are left out of the sum. With targets the logits are made and used in
        chunks, never whole.
        """
        hidden_btd = self.hidden(tokens_bt)
        if targets_bt is None:
            return cast("Tensor", self.head(hidden_btd))
        return cross_entropy(hidden_btd.flatten(0, 1), self.head.weight, targets_bt.flatten())
