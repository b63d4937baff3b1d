"""The GPT-2 architecture: added positions, LayerNorm, GELU, as many key heads as query heads.

Follows Radford et al. 2019 as nanoGPT does: GELU itself (Hendrycks & Gimpel 2016, arXiv:1606.08415)
instead of the published weights' approximation by tanh, and biases only with ``bias``. A checkpoint
exports to ``transformers.GPT2LMHeadModel`` by renaming.
Shape letters as in ``lm.models.transformer``.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lm.models.attention import Segments, causal_attention
from lm.models.decoder.model import Decoder
from lm.models.decoder.sections import DecoderConfig
from lm.models.dropout import dropout


class LayerNorm(nn.Module):
    """Layer normalization (Ba et al. 2016, arXiv:1607.06450), with or without a bias."""

    def __init__(self, size: int, eps: float, *, bias: bool) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(x - mean) / std * weight + bias`` over the last axis."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class Block(nn.Module):
    """Attention and feed-forward, each normalized before and added to the residual stream."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        width, hidden, bias = config.hidden_size, config.ffn_size, config.bias
        self.num_heads = config.num_heads
        self.attention_norm = LayerNorm(width, config.norm_eps, bias=bias)
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)
        self.mlp_norm = LayerNorm(width, config.norm_eps, bias=bias)
        self.up = nn.Linear(width, hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def weight_matrices(self) -> list[tuple[Tensor, list[int]]]:
        """Return the block's matrices, and the rows of those that each is stacked from."""
        width = self.out.out_features
        whole = ((layer, [layer.out_features]) for layer in (self.out, self.up, self.down))
        return [(layer.weight, rows) for layer, rows in ((self.qkv, [width] * 3), *whole)]

    def forward(
        self,
        x_btd: Tensor,
        block_extras: None,  # noqa: ARG002
        segments: Segments,
        dropout_keys: Sequence[Tensor | None],
        dropout_p: float,
    ) -> Tensor:
        """Return the residual stream after the block, float[B, T, D]."""
        x_btd = x_btd + dropout(
            self.attention(self.attention_norm(x_btd), segments), dropout_keys[0], dropout_p
        )
        fed_btd = self.down(F.gelu(self.up(self.mlp_norm(x_btd))))
        return x_btd + dropout(fed_btd, dropout_keys[1], dropout_p)

    def attention(self, x_btd: Tensor, segments: Segments) -> Tensor:
        """Return what attention adds to the residual stream, float[B, T, D]."""
        batch, time, width = x_btd.shape
        heads = self.qkv(x_btd).view(batch, time, 3, self.num_heads, -1)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        mixed = causal_attention(q, k, v, segments.mask)
        return cast("Tensor", self.out(mixed.transpose(1, 2).reshape(batch, time, width)))


class GPT2(Decoder):
    """The GPT-2 model."""

    def __init__(self, config: DecoderConfig) -> None:
        norm = LayerNorm(config.hidden_size, config.norm_eps, bias=config.bias)
        super().__init__(config, [Block(config) for _ in range(config.num_layers)], norm)
        if config.positions == "learned":
            self.position_embedding = nn.Embedding(config.context_length, config.hidden_size)
        self.init_weights()

    def embed_inputs(self, tokens_bt: Tensor, segments: Segments) -> tuple[Tensor, None]:
        """Return the sum of the embeddings of ids and of positions, which restart with each document."""
        x_btd: Tensor = self.embed(tokens_bt) + self.position_vectors(segments.positions)
        return x_btd, None

    def init_weights(self) -> None:
        """Draw weights as all decoders do; biases start at zero."""
        super().init_weights()
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.zeros_(parameter)


def build_model(config: DecoderConfig) -> GPT2:
    """Return a model with fresh weights, drawn from torch's generator."""
    return GPT2(config)
