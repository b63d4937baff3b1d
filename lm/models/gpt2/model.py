"""A decoder in GPT-2's layout: learned positions, LayerNorm, GELU, as many keys as queries.

Follows Radford et al. 2019 as nanoGPT does: GELU itself (Hendrycks & Gimpel 2016, arXiv:1606.08415)
instead of the published weights' approximation by tanh, and biases only if asked for. A checkpoint
exports to ``transformers.GPT2LMHeadModel`` by renaming.
Shape letters as in ``lm.models.decoder``.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lm.models.attention import Spans, causal_attention
from lm.models.decoder import Decoder, Shape
from lm.models.dropout import drop


class Norm(nn.Module):
    """Layer normalisation (Ba et al. 2016, arXiv:1607.06450), with or without a bias."""

    def __init__(self, width: int, eps: float, *, bias: bool) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """``(x - mean) / std * weight + bias`` over the last axis."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class Block(nn.Module):
    """Attention and feed-forward, each normalised before and added to the residual stream."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, hidden, bias = shape.width, shape.hidden, shape.bias
        self.heads = shape.heads
        self.attention_norm = Norm(width, shape.norm_eps, bias=bias)
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)
        self.mlp_norm = Norm(width, shape.norm_eps, bias=bias)
        self.up = nn.Linear(width, hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def matrices(self) -> list[tuple[Tensor, list[int]]]:
        """The block's matrices, and the rows of those that each is stacked from."""
        width = self.out.out_features
        whole = ((layer, [layer.out_features]) for layer in (self.out, self.up, self.down))
        return [(layer.weight, rows) for layer, rows in ((self.qkv, [width] * 3), *whole)]

    def forward(
        self,
        x_btd: Tensor,
        beside: None,  # noqa: ARG002
        where: Spans,
        keys: Sequence[Tensor | None],
        share: float,
    ) -> Tensor:
        """The residual stream after the block, float[B, T, D]."""
        x_btd = x_btd + drop(self.attend(self.attention_norm(x_btd), where), keys[0], share)
        fed_btd = self.down(F.gelu(self.up(self.mlp_norm(x_btd))))
        return x_btd + drop(fed_btd, keys[1], share)

    def attend(self, x_btd: Tensor, where: Spans) -> Tensor:
        """What attention adds to the residual stream, float[B, T, D]."""
        batch, time, width = x_btd.shape
        heads = self.qkv(x_btd).view(batch, time, 3, self.heads, -1)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        mixed = causal_attention(q, k, v, where.seen)
        return cast("Tensor", self.out(mixed.transpose(1, 2).reshape(batch, time, width)))


class GPT2(Decoder):
    """The whole model."""

    def __init__(self, shape: Shape) -> None:
        norm = Norm(shape.width, shape.norm_eps, bias=shape.bias)
        super().__init__(shape, [Block(shape) for _ in range(shape.layers)], norm)
        self.places = nn.Embedding(shape.context, shape.width)
        self.initialise()

    def enter(self, tokens_bt: Tensor, where: Spans) -> tuple[Tensor, None]:
        """Embedding of ids and of positions, which start again where a document does."""
        x_btd: Tensor = self.embed(tokens_bt) + self.places(where.positions)
        return x_btd, None

    def initialise(self) -> None:
        """As all layouts; biases begin at zero."""
        super().initialise()
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.zeros_(parameter)
