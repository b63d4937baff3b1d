"""The optimizers: Muon for the blocks' matrices, AdamW for the rest; their schedule and penalties."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ReduceOp, all_reduce, get_rank, get_world_size, is_initialized
from torch.distributed.tensor import DTensor, Replicate
from torch.optim import AdamW, Optimizer

from lm.config.loop import LoopConfig
from lm.models.neural_lm import TrainableModel

# The quintic of Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/): its steep slope at
# zero brings every singular value into about [0.7, 1.2] in five iterations.
NS_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NS_STEPS = 5


def learning_rate(step: int, config: LoopConfig) -> float:
    """Return the learning rate of a 0-based step: linear warm-up, then decay to ``min_lr_fraction``.

    cosine: Loshchilov & Hutter 2017 (arXiv:1608.03983), one period, without restarts. wsd: constant
    until the last ``decay_fraction`` of the steps, then 1 - sqrt (Haegele et al. 2024,
    arXiv:2405.18392, section 3). The rate of the last step is above the minimum.
    """
    peak, steps = config.optim.lr, config.steps
    warmup = round(config.optim.warmup_fraction * steps)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    decay_start = warmup
    if config.optim.schedule == "wsd":
        decay_start = max(warmup, steps - round(config.optim.decay_fraction * steps))
    progress = min(1.0, max(0, step - decay_start) / max(1, steps - decay_start))
    decay = {
        "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
        "linear": 1 - progress,
        "wsd": 1 - math.sqrt(progress),
    }[config.optim.schedule]
    floor = peak * config.optim.min_lr_fraction
    return floor + (peak - floor) * decay


def step_optimizers(optimizers: Mapping[str, Optimizer], lr: float) -> None:
    """Take a step with every optimizer, at ``lr`` times each group's multiplier."""
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = lr * group.get("lr_multiplier", 1.0)
        optimizer.step()


def decayed_parameters(optimizers: Mapping[str, Optimizer]) -> list[Tensor]:
    """Return the weights that are decayed: those of groups that ``build_optimizers`` marks so."""
    groups = [group for optimizer in optimizers.values() for group in optimizer.param_groups]
    return [weight for group in groups if group["decayed"] for weight in group["params"]]


@torch.no_grad()
def add_penalty_gradients(weights: Iterable[Tensor], l1: float, l2: float) -> None:
    """Add the gradient of ``l1 sum |w| + l2/2 sum w^2``.

    Unlike ``weight_decay``, which shrinks weights apart from the gradient (Loshchilov & Hutter
    2019, arXiv:1711.05101), these are clipped and averaged with the gradient.
    """
    for weight in weights:
        assert weight.grad is not None
        if l1:
            weight.grad.add_(weight.sign(), alpha=l1)
        if l2:
            weight.grad.add_(weight, alpha=l2)


class Muon(Optimizer):
    """SGD with Nesterov momentum whose update of each matrix is orthogonalized.

    Jordan et al. 2024, with the scale 0.2 * sqrt(max(rows, columns)) of Liu et al. 2025
    (arXiv:2502.16982, equation 4) that gives the update AdamW's size, so that one learning rate
    and one weight decay serve both. A matrix that is several stacked ones (``qkv``) is
    orthogonalized block by block. With several processes each computes the updates of some blocks,
    and the results are all-reduced: sums of one number and zeros, so they are exact.
    """

    def __init__(
        self,
        matrices: Iterable[tuple[Tensor, Sequence[int]]],
        *,
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Take ``(matrix, rows of each stacked block)`` pairs; iterate in ``dtype``."""
        pairs = list(matrices)
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "decayed": True}
        super().__init__([matrix for matrix, _ in pairs], defaults)
        self.block_rows = [tuple(rows) for _, rows in pairs]
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Apply one update from the current gradients."""
        loss = None if closure is None else closure()
        (group,) = self.param_groups
        updates = self.compute_updates(group["params"], group["momentum"])
        for matrix, update in zip(group["params"], updates, strict=True):
            decayed = matrix.mul_(1 - group["lr"] * group["weight_decay"])
            decayed.add_(_shard_like(matrix, update), alpha=-group["lr"])
        return loss

    def compute_updates(self, matrices: list[Tensor], momentum: float) -> list[Tensor]:
        """Return the scaled update of every matrix, the same on every process."""
        is_distributed = is_initialized() and get_world_size() > 1
        flat = torch.zeros(sum(m.numel() for m in matrices), device=matrices[0].device)
        views = [
            part.view_as(m)
            for part, m in zip(flat.split([m.numel() for m in matrices]), matrices, strict=True)
        ]
        block_index = 0
        for matrix, rows, view in zip(matrices, self.block_rows, views, strict=True):
            state: dict[str, Any] = self.state[matrix]
            if not state:
                state["momentum"] = torch.zeros_like(matrix)
            assert matrix.grad is not None
            average = state["momentum"].lerp_(matrix.grad, 1 - momentum)
            nesterov = _gather(matrix.grad.lerp(average, momentum))
            for block, out in zip(nesterov.split(rows), view.split(rows), strict=True):
                if not is_distributed or block_index % get_world_size() == get_rank():
                    scale = 0.2 * math.sqrt(max(block.shape))
                    out.copy_(newton_schulz(block, self.dtype) * scale)
                block_index += 1
        if is_distributed:
            all_reduce(flat, op=ReduceOp.SUM)
        return views


def _gather(matrix: Tensor) -> Tensor:
    """Return the whole of a matrix that may be sharded over the processes."""
    return matrix.full_tensor() if isinstance(matrix, DTensor) else matrix


def _shard_like(matrix: Tensor, update: Tensor) -> Tensor:
    """Shard an update, which every process has whole, as its matrix is."""
    if not isinstance(matrix, DTensor):
        return update
    replicated = DTensor.from_local(update, matrix.device_mesh, [Replicate()])
    return replicated.redistribute(placements=matrix.placements)


def build_optimizers(
    model: TrainableModel, config: LoopConfig, dtype: torch.dtype
) -> dict[str, Optimizer]:
    """Return the optimizers by name.

    Weights that need no gradient are left out. The blocks' matrices are decayed, and so are
    embeddings and an untied head with ``weight_decay_embeddings``; norms and biases never are. A
    group's ``lr_multiplier`` is its learning rate as a multiple of the schedule's.
    """
    blocks = [pair for pair in model.weight_matrices() if pair[0].requires_grad]
    in_blocks = {id(matrix) for matrix, _ in blocks}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in in_blocks]
    tables = [p for p in others if p.dim() == 2 and config.optim.weight_decay_embeddings]
    rest = [p for p in others if p.dim() != 2 or not config.optim.weight_decay_embeddings]
    weight_decay, lr = config.optim.weight_decay, config.optim.lr
    muon = config.optim.optimizer == "muon"
    decayed = tables if muon else [*tables, *(matrix for matrix, _ in blocks)]
    multiplier = config.optim.embedding_lr_multiplier if muon else 1.0
    groups: list[dict[str, Any]] = [
        {"params": rest, "weight_decay": 0.0, "lr_multiplier": multiplier, "decayed": False}
    ]
    if decayed:
        groups.append(
            {
                "params": decayed,
                "weight_decay": weight_decay,
                "lr_multiplier": multiplier,
                "decayed": True,
            }
        )
    optimizers: dict[str, Optimizer] = {}
    if muon:
        optimizers["muon"] = Muon(
            blocks,
            lr=lr,
            weight_decay=weight_decay,
            momentum=config.optim.muon_momentum,
            dtype=dtype,
        )
    optimizers["adamw"] = AdamW(groups, lr=lr, betas=config.optim.adam_betas, fused=True)
    return optimizers


def newton_schulz(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """Approximate U V^T of ``matrix = U S V^T`` (float[m, n]) by Newton-Schulz steps in ``dtype``."""
    a, b, c = NS_COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    # Normalized first: many gradients are too small to be represented in fp16.
    x = (x / (x.norm() + 1e-7)).to(dtype)
    for _ in range(NS_STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    result: Tensor = x.T if tall else x
    return result
