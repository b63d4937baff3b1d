"""Causal self-attention, by the faster road for the device and the length; rotary positions."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

# On a CPU, torch's fused kernel pays off only where the T x T scores no longer fit the caches.
# Forward and backward in bf16, 4 heads of 64, 1 thread of a Zen 5 core (benchmarks/train.py):
# T=128 x 32 sequences 50 ms fused, 16 ms explicit; T=256 x 16 sequences 49 ms, 20 ms.
EXPLICIT_CONTEXT = 512


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax(q k^T / sqrt(E)) v over the positions up to each query's own.

    Args:
        q: float[B, H, T, E].
        k: float[B, K, T, E], where H is a multiple of K (Ainslie et al. 2023, arXiv:2305.13245).
        v: float[B, K, T, E].

    Returns:
        float[B, H, T, E].
    """
    grouped = k.shape[1] != q.shape[1]
    time = q.shape[2]
    if q.device.type != "cpu" or time > EXPLICIT_CONTEXT:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
    if grouped:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scores = (q / math.sqrt(q.shape[3])) @ k.transpose(-1, -2)
    ahead = torch.full((time, time), -math.inf, dtype=scores.dtype, device=q.device).triu_(1)
    return torch.softmax(scores + ahead, dim=-1) @ v


def rotary_table(head_width: int, context: int, theta: float) -> tuple[Tensor, Tensor]:
    """``(cos, sin)``, float[context, E]: angles t * theta^(-2i/E), Su et al. 2021 (2104.09864)."""
    even = torch.arange(0, head_width, 2, dtype=torch.int64).float()
    frequency = 1.0 / (theta ** (even / head_width))
    angle = torch.outer(torch.arange(context).float(), frequency)
    return torch.cat((angle, angle), -1).cos(), torch.cat((angle, angle), -1).sin()


def rotate(x_bhte: Tensor, cos_te: Tensor, sin_te: Tensor) -> Tensor:
    """Turn every pair (i, i + E/2) of each head by its position's angle."""
    first, second = x_bhte.chunk(2, dim=-1)
    cos, sin = cos_te.to(x_bhte.dtype), sin_te.to(x_bhte.dtype)
    return x_bhte * cos + torch.cat((-second, first), dim=-1) * sin
