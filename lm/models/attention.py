"""Attention, by the faster kernel for the device and the length; positions that have no weights."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

# On a CPU, torch's fused kernel is faster only if the T x T scores do not fit in the caches.
# Forward and backward in bf16, 4 heads of 64, 1 thread of a Zen 5 core (benchmarks/bench_train_parts.py):
# T=128 x 32 sequences 50 ms fused, 16 ms explicit; T=256 x 16 sequences 49 ms, 20 ms.
MAX_EXPLICIT_CONTEXT = 512


@dataclass(frozen=True)
class Segments:
    """The positions and the attention mask of rows.

    Attributes:
        positions: int64[T], or [B, T] if documents are masked: counted from a document's start.
        mask: bool[B, 1, T, T], or [B, 1, 1, T], whether a query (third axis) may attend to a key;
            ``None``: to every position up to its own, or to all, as the model does.
    """

    positions: Tensor
    mask: Tensor | None


def document_segments(tokens_bt: Tensor, eos: int | None) -> Segments:
    """Return the segments of rows of tokens; with ``eos`` each position that holds it starts a document."""
    time = torch.arange(tokens_bt.shape[1], device=tokens_bt.device)
    if eos is None:
        return Segments(time, None)
    is_start_bt = tokens_bt == eos
    start_bt = torch.where(is_start_bt, time, 0).cummax(dim=1).values
    same_document = start_bt[:, :, None] == start_bt[:, None, :]
    return Segments(time - start_bt, (same_document & (time[:, None] >= time)).unsqueeze(1))


def causal_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return softmax(q k^T / sqrt(E)) v over the positions that a query may attend to.

    Args:
        q: float[B, H, T, E].
        k: float[B, K, T, E], where H is a multiple of K (Ainslie et al. 2023, arXiv:2305.13245).
        v: float[B, K, T, E].
        mask: see ``Segments``.

    Returns:
        float[B, H, T, E].
    """
    grouped = k.shape[1] != q.shape[1]
    time = q.shape[2]
    fused = q.device.type != "cpu" or time > MAX_EXPLICIT_CONTEXT
    if fused and mask is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
    if grouped:  # with a mask, GPUs have a fused kernel only for equal numbers of heads
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    if fused:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = (q / math.sqrt(q.shape[3])) @ k.transpose(-1, -2)
    if mask is None:
        future = torch.full((time, time), -math.inf, dtype=scores.dtype, device=q.device).triu_(1)
        scores += future
    else:
        scores = scores.masked_fill(~mask, -math.inf)
    return torch.softmax(scores, dim=-1) @ v


def bidirectional_segments(tokens_bt: Tensor, eos: int | None) -> Segments:
    """Return the segments of rows in which all positions see each other; with ``eos``, of documents.

    A position that holds ``eos`` ends a document, as in the token shards.
    """
    time = torch.arange(tokens_bt.shape[1], device=tokens_bt.device)
    if eos is None:
        return Segments(time, None)
    is_start_bt = torch.roll(tokens_bt == eos, 1, dims=1)
    is_start_bt[:, 0] = True
    start_bt = torch.where(is_start_bt, time, 0).cummax(dim=1).values
    return Segments(time - start_bt, (start_bt[:, :, None] == start_bt[:, None, :]).unsqueeze(1))


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Return softmax(scale q k^T + bias) v over the keys that a query may attend to.

    Args:
        q: float[B, H, T, E].
        k: float[B, H, S, E].
        v: float[B, H, S, E].
        mask: bool, broadcast to [B, H, T, S]; ``None``: every key.
        bias: float, broadcast to [B, H, T, S].
        scale: 1 / sqrt(E) by default.

    Returns:
        float[B, H, T, E].
    """
    scale = 1 / math.sqrt(q.shape[3]) if scale is None else scale
    if q.device.type != "cpu" or k.shape[2] > MAX_EXPLICIT_CONTEXT:
        extra = mask
        if bias is not None:
            bias = bias.to(q.dtype)
            extra = bias if mask is None else bias.masked_fill(~mask, -math.inf)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=extra, scale=scale)
    scores = (q * scale) @ k.transpose(-1, -2)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return torch.softmax(scores, dim=-1) @ v


def sinusoidal_table(context_length: int, size: int) -> Tensor:
    """Return the positions of Vaswani et al. 2017 (section 3.5), float[context_length, size].

    Sine at even and cosine at odd columns, of angles t / 10000^(2i / size). It is divided by
    sqrt(size): the paper multiplies the embedding by it instead, which would spoil an embedding that
    is also the head.
    """
    angle = torch.arange(context_length).float()[:, None] / 10_000.0 ** (
        torch.arange(0, size, 2).float() / size
    )
    table = torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)
    return table[:, :size] / math.sqrt(size)


def rotary_table(head_dim: int, context_length: int, theta: float) -> tuple[Tensor, Tensor]:
    """Return ``(cos, sin)``, float[context_length, E]: angles t * theta^(-2i/E), Su et al. 2021 (2104.09864)."""
    even = torch.arange(0, head_dim, 2, dtype=torch.int64).float()
    frequency = 1.0 / (theta ** (even / head_dim))
    angle = torch.outer(torch.arange(context_length).float(), frequency)
    return torch.cat((angle, angle), -1).cos(), torch.cat((angle, angle), -1).sin()


def apply_rotary(x_bhte: Tensor, cos_te: Tensor, sin_te: Tensor) -> Tensor:
    """Rotate every pair (i, i + E/2) of each head by its position's angle."""
    first, second = x_bhte.chunk(2, dim=-1)
    cos, sin = cos_te.to(x_bhte.dtype), sin_te.to(x_bhte.dtype)
    return x_bhte * cos + torch.cat((-second, first), dim=-1) * sin
