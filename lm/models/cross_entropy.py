"""Cross-entropy of a linear head in chunks: all logits never exist at the same time."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

# In fp16 many gradients of logits are far below 6e-5, so they are scaled up until they are summed.
FP16_GRAD_SCALE = 16.0
CHUNK_ELEMENTS = 1 << 21  # logits per chunk: 8 MB in fp32, within a server CPU's last-level cache
GPU_CHUNK_ELEMENTS = 1 << 27  # a GPU wants large products; half a GB in fp32


def cross_entropy(
    hidden_nd: Tensor,
    weight_vd: Tensor,
    targets_n: Tensor,
    label_smoothing: float = 0.0,
    bias_v: Tensor | None = None,
) -> Tensor:
    """Return the summed loss in nats of ``softmax(hidden @ weight.T + bias)`` against the targets.

    Args:
        hidden_nd: float[N, D], the last hidden states.
        weight_vd: float[V, D], the head.
        targets_n: int64[N]; rows with a negative target are not counted.
        label_smoothing: fraction of the target that is spread evenly over the vocabulary (Szegedy
            et al. 2016, arXiv:1512.00567, section 7).
        bias_v: float[V], the head's; ``None``: it has none.

    Returns:
        A scalar in fp32. Under autocast the products run in its type, the softmax in fp32.

    The gradient of a chunk is computed together with its logits, so that no logits are kept for, or
    recomputed in, the backward pass (the idea of Liger Kernel, arXiv:2410.10989).
    """
    kind = hidden_nd.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden_nd.dtype
    apply: Any = _ChunkedLoss.apply
    # Checked here, because gradients are never enabled inside a Function's forward.
    total: Tensor = apply(
        hidden_nd, weight_vd, bias_v, targets_n, dtype, label_smoothing, torch.is_grad_enabled()
    )
    return total


def _is_fused(x: Tensor) -> bool:
    """Return whether operations on logits are compiled to kernels for a GPU."""
    return x.device.type != "cpu" and torch.compiler.is_compiling()


def _subtract_target(grad: Tensor, index: Tensor, target_prob: float, *, fused: bool) -> Tensor:
    """Subtract ``target_prob`` from ``grad``, float[n, V], at each row's index, int64[n, 1].

    May work in place. A scatter on a GPU would write all of ``grad`` in fp32 and read it again;
    a comparison is compiled into the one kernel that computes it.
    """
    if fused:
        column = torch.arange(grad.shape[1], device=grad.device)
        return grad - torch.where(column == index, target_prob, 0.0)
    return grad.scatter_add_(1, index, torch.full_like(index, -target_prob, dtype=grad.dtype))


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        dtype: Any,
        label_smoothing: float,
        needs_grad: bool,  # noqa: FBT001 - Function.apply takes no names
    ) -> Tensor:
        vocab_size = weight.shape[0]
        max_elements = CHUNK_ELEMENTS if hidden.device.type == "cpu" else GPU_CHUNK_ELEMENTS
        rows = max(1, max_elements // vocab_size)
        scale = FP16_GRAD_SCALE if dtype == torch.float16 else 1.0
        total = hidden.new_zeros((), dtype=torch.float32)
        with torch.autocast(hidden.device.type, enabled=False):
            cast = weight.to(dtype)
            grad_hidden = torch.empty_like(hidden) if needs_grad else None
            grad_weight = torch.zeros_like(weight) if needs_grad else None
            grad_bias = torch.zeros_like(bias) if needs_grad and bias is not None else None
            for start in range(0, hidden.shape[0], rows):
                part = hidden[start : start + rows].to(dtype)
                target = targets[start : start + rows].unsqueeze(1)
                is_counted, index = target >= 0, target.clamp_min(0)
                logits = (part @ cast.T).float()
                if bias is not None:
                    logits += bias
                log_p = F.log_softmax(logits, dim=-1)
                picked = log_p.gather(1, index)
                if label_smoothing:
                    picked = (1 - label_smoothing) * picked + label_smoothing * log_p.mean(
                        1, keepdim=True
                    )
                total -= (picked * is_counted).sum()
                if grad_hidden is not None and grad_weight is not None:
                    grad = log_p.exp_()
                    if label_smoothing:
                        grad -= label_smoothing / vocab_size
                    grad = _subtract_target(
                        grad, index, 1 - label_smoothing, fused=_is_fused(hidden)
                    )
                    if scale != 1.0:
                        grad *= scale
                    grad = grad.to(dtype)
                    grad_hidden[start : start + rows] = (grad @ cast) * is_counted
                    grad_weight += grad.T @ (part * is_counted)
                    if grad_bias is not None:
                        grad_bias += (grad * is_counted).sum(0, dtype=torch.float32)
        if needs_grad:
            ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
            ctx.scale = scale
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight, grad_bias = ctx.saved_tensors
        factor = grads[0] / ctx.scale
        grad_bias = None if grad_bias is None else grad_bias * factor
        return grad_hidden * factor, grad_weight * factor, grad_bias, None, None, None, None
