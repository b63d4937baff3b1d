"""Cross-entropy of a linear head without ever holding all logits."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

# In fp16 the gradients of logits, many of them far below 6e-5, are kept larger until they are summed.
FP16_GRAD_SCALE = 16.0
CHUNK_ELEMENTS = 1 << 21  # logits per chunk: 8 MB in fp32, within a server CPU's last-level cache
GPU_CHUNK_ELEMENTS = 1 << 27  # a GPU wants large products; half a GB in fp32


def cross_entropy(
    hidden_nd: Tensor, weight_vd: Tensor, targets_n: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """The summed loss in nats of ``softmax(hidden @ weight.T)`` against the targets.

    Args:
        hidden_nd: float[N, D], the last hidden states.
        weight_vd: float[V, D], the head.
        targets_n: int64[N]; rows with a negative target count nothing.
        label_smoothing: share of the target that is spread evenly over the vocabulary (Szegedy et al.
            2016, arXiv:1512.00567, section 7).

    Returns:
        A scalar in fp32. Under autocast the products run in its type, the softmax in fp32.

    The gradient of a chunk is made while its logits are at hand, so that no logits are kept for,
    or made again in, the backward pass (the idea of Liger Kernel, arXiv:2410.10989).
    """
    kind = hidden_nd.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden_nd.dtype
    apply: Any = _ChunkedLoss.apply
    # Asked here: inside a Function's forward no gradients are ever enabled.
    total: Tensor = apply(
        hidden_nd, weight_vd, targets_n, dtype, label_smoothing, torch.is_grad_enabled()
    )
    return total


def _is_fused(x: Tensor) -> bool:
    """Whether what is done to logits here is compiled to kernels for a GPU."""
    return x.device.type != "cpu" and torch.compiler.is_compiling()


def _subtract_target(grad: Tensor, index: Tensor, target_prob: float, *, fused: bool) -> Tensor:
    """``grad``, float[n, V], less a share at each row's index, int64[n, 1]; may be in place.

    To scatter, a GPU would write all of ``grad`` in fp32 and read it again: compiled, a comparison
    is part of the one kernel that makes it.
    """
    if fused:
        place = torch.arange(grad.shape[1], device=grad.device)
        return grad - torch.where(place == index, target_prob, 0.0)
    return grad.scatter_add_(1, index, torch.full_like(index, -target_prob, dtype=grad.dtype))


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        dtype: Any,
        label_smoothing: float,
        needs_grad: bool,  # noqa: FBT001 - Function.apply takes no names
    ) -> Tensor:
        vocabulary = weight.shape[0]
        most = CHUNK_ELEMENTS if hidden.device.type == "cpu" else GPU_CHUNK_ELEMENTS
        rows = max(1, most // vocabulary)
        scale = FP16_GRAD_SCALE if dtype == torch.float16 else 1.0
        total = hidden.new_zeros((), dtype=torch.float32)
        with torch.autocast(hidden.device.type, enabled=False):
            cast = weight.to(dtype)
            grad_hidden = torch.empty_like(hidden) if needs_grad else None
            grad_weight = torch.zeros_like(weight) if needs_grad else None
            for start in range(0, hidden.shape[0], rows):
                part = hidden[start : start + rows].to(dtype)
                target = targets[start : start + rows].unsqueeze(1)
                counted, index = target >= 0, target.clamp_min(0)
                log_p = F.log_softmax((part @ cast.T).float(), dim=-1)
                picked = log_p.gather(1, index)
                if label_smoothing:
                    picked = (1 - label_smoothing) * picked + label_smoothing * log_p.mean(
                        1, keepdim=True
                    )
                total -= (picked * counted).sum()
                if grad_hidden is not None and grad_weight is not None:
                    grad = log_p.exp_()
                    if label_smoothing:
                        grad -= label_smoothing / vocabulary
                    grad = _subtract_target(
                        grad, index, 1 - label_smoothing, fused=_is_fused(hidden)
                    )
                    if scale != 1.0:
                        grad *= scale
                    grad = grad.to(dtype)
                    grad_hidden[start : start + rows] = (grad @ cast) * counted
                    grad_weight += grad.T @ (part * counted)
        if needs_grad:
            ctx.save_for_backward(grad_hidden, grad_weight)
            ctx.scale = scale
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        factor = grads[0] / ctx.scale
        return grad_hidden * factor, grad_weight * factor, None, None, None, None
