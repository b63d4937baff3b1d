"""A decoder in Llama's layout: RMSNorm, rotary positions, grouped queries, SwiGLU.

Follows Touvron et al. 2023 (arXiv:2302.13971) and, to the bit of its conventions (rotate-half
rotary pairs, norm in fp32, no biases), ``transformers.LlamaForCausalLM``, so that a checkpoint
exports by renaming. Shape letters as in ``lm.models.decoder``.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lm.models.attention import Spans, causal_attention, rotary_table, rotate
from lm.models.decoder import Decoder, Shape
from lm.models.dropout import drop

Rotary = tuple[Tensor, Tensor]


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

    def forward(
        self,
        x_btd: Tensor,
        rotary: Rotary,
        where: Spans,
        keys: Sequence[Tensor | None],
        share: float,
    ) -> Tensor:
        """The residual stream after the block, float[B, T, D]."""
        mixed_btd = self.attend(self.attention_norm(x_btd), rotary, where)
        x_btd = x_btd + drop(mixed_btd, keys[0], share)
        gate_btf, up_btf = self.gate_up(self.mlp_norm(x_btd)).chunk(2, dim=-1)
        fed_btd = self.down(F.silu(gate_btf) * up_btf)
        return x_btd + drop(fed_btd, keys[1], share)

    def attend(self, x_btd: Tensor, rotary: Rotary, where: Spans) -> Tensor:
        """What attention adds to the residual stream, float[B, T, D]."""
        batch, time, _ = x_btd.shape
        heads = self.qkv(x_btd).view(batch, time, -1, self.head_width).transpose(1, 2)
        rotated = rotate(heads[:, : self.heads + self.kv_heads], *rotary)
        q, k = rotated.split((self.heads, self.kv_heads), dim=1)
        v = heads[:, self.heads + self.kv_heads :]
        mixed = causal_attention(q, k, v, where.seen)
        return cast("Tensor", self.out(mixed.transpose(1, 2).reshape(batch, time, -1)))


class Llama(Decoder):
    """The whole model."""

    _rotary: Rotary | None = None

    def __init__(self, shape: Shape) -> None:
        norm = Norm(shape.width, shape.norm_eps)
        super().__init__(shape, [Block(shape) for _ in range(shape.layers)], norm)
        self.initialise()

    def enter(self, tokens_bt: Tensor, where: Spans) -> tuple[Tensor, Rotary]:  # noqa: ARG002
        """Embedding, and the rotary table.

        Rotated queries and keys know only how far they are apart, so that positions need not
        start again where a document does.
        """
        x_btd = self.embed(tokens_bt)
        cos_te, sin_te = self.rotary(x_btd.device)
        time = tokens_bt.shape[1]
        return x_btd, (cos_te[:time], sin_te[:time])

    def rotary(self, device: torch.device) -> Rotary:
        """``rotary_table`` on the device: no buffer, for it is the same in every process."""
        if self._rotary is None or self._rotary[0].device != device:
            s = self.shape
            cos_te, sin_te = rotary_table(s.head_width, s.context, s.rope_theta)
            self._rotary = cos_te.to(device), sin_te.to(device)
        return self._rotary
