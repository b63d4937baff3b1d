"""The Llama architecture: RMSNorm, rotary positions, grouped queries, SwiGLU.

Follows Touvron et al. 2023 (arXiv:2302.13971) and the conventions (rotate-half
rotary pairs, norm in fp32, no biases) of ``transformers.LlamaForCausalLM``, so that a checkpoint
exports by renaming. Shape letters as in ``lm.models.transformer``.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from lm.models.attention import Segments, apply_rotary, causal_attention, rotary_table
from lm.models.decoder.model import Decoder
from lm.models.decoder.sections import DecoderConfig
from lm.models.dropout import dropout

RotaryTable = tuple[Tensor, Tensor]


class RMSNorm(nn.Module):
    """Root mean square normalization (Zhang & Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x / rms(x) * weight`` over the last axis, computed in fp32."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Block(nn.Module):
    """Attention and feed-forward, each normalized before and added to the residual stream."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        s, e = config, config.head_dim
        self.num_heads, self.num_kv_heads, self.head_dim = s.num_heads, s.num_kv_heads, e
        self.attention_norm = RMSNorm(s.hidden_size, s.norm_eps)
        self.qkv = nn.Linear(s.hidden_size, (s.num_heads + 2 * s.num_kv_heads) * e, bias=False)
        self.out = nn.Linear(s.num_heads * e, s.hidden_size, bias=False)
        self.mlp_norm = RMSNorm(s.hidden_size, s.norm_eps)
        self.gate_up = nn.Linear(s.hidden_size, 2 * s.ffn_size, bias=False)
        self.down = nn.Linear(s.ffn_size, s.hidden_size, bias=False)

    def weight_matrices(self) -> list[tuple[Tensor, list[int]]]:
        """Return the block's matrices, and the rows of those that each is stacked from."""
        kv, width = self.num_kv_heads * self.head_dim, self.num_heads * self.head_dim
        stacked = (self.qkv, [width, kv, kv]), (self.gate_up, [self.down.in_features] * 2)
        whole = ((layer, [layer.out_features]) for layer in (self.out, self.down))
        return [(layer.weight, rows) for layer, rows in (*stacked, *whole)]

    def forward(
        self,
        x_btd: Tensor,
        rotary: RotaryTable,
        segments: Segments,
        dropout_keys: Sequence[Tensor | None],
        dropout_p: float,
    ) -> Tensor:
        """Return the residual stream after the block, float[B, T, D]."""
        mixed_btd = self.attention(self.attention_norm(x_btd), rotary, segments)
        x_btd = x_btd + dropout(mixed_btd, dropout_keys[0], dropout_p)
        gate_btf, up_btf = self.gate_up(self.mlp_norm(x_btd)).chunk(2, dim=-1)
        fed_btd = self.down(F.silu(gate_btf) * up_btf)
        return x_btd + dropout(fed_btd, dropout_keys[1], dropout_p)

    def attention(self, x_btd: Tensor, rotary: RotaryTable, segments: Segments) -> Tensor:
        """Return what attention adds to the residual stream, float[B, T, D]."""
        batch, time, _ = x_btd.shape
        heads = self.qkv(x_btd).view(batch, time, -1, self.head_dim).transpose(1, 2)
        rotated = apply_rotary(heads[:, : self.num_heads + self.num_kv_heads], *rotary)
        q, k = rotated.split((self.num_heads, self.num_kv_heads), dim=1)
        v = heads[:, self.num_heads + self.num_kv_heads :]
        mixed = causal_attention(q, k, v, segments.mask)
        return cast("Tensor", self.out(mixed.transpose(1, 2).reshape(batch, time, -1)))


class Llama(Decoder):
    """The Llama model."""

    _rotary_table: RotaryTable | None = None

    def __init__(self, config: DecoderConfig) -> None:
        norm = RMSNorm(config.hidden_size, config.norm_eps)
        super().__init__(config, [Block(config) for _ in range(config.num_layers)], norm)
        self.init_weights()

    def embed_inputs(self, tokens_bt: Tensor, segments: Segments) -> tuple[Tensor, RotaryTable]:  # noqa: ARG002
        """Return the embedding and the rotary table.

        Rotary attention depends only on the distance of two positions, so that positions need not
        restart with each document.
        """
        x_btd = self.embed(tokens_bt)
        cos_te, sin_te = self.get_rotary_table(x_btd.device)
        time = tokens_bt.shape[1]
        return x_btd, (cos_te[:time], sin_te[:time])

    def get_rotary_table(self, device: torch.device) -> RotaryTable:
        """Return ``rotary_table`` on the device; not a buffer, because it is the same in every process."""
        if self._rotary_table is None or self._rotary_table[0].device != device:
            s = self.config
            cos_te, sin_te = rotary_table(s.head_dim, s.context_length, s.rope_theta)
            self._rotary_table = cos_te.to(device), sin_te.to(device)
        return self._rotary_table


def build_model(config: DecoderConfig) -> Llama:
    """Return a model with fresh weights, drawn from torch's generator."""
    return Llama(config)
