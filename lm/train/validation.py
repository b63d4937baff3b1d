"""Passes that move no weight: before the first step, and over held-out tokens."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from infra.dataset.dataset import Dataset
from infra.errors import UserError
from infra.formats.megatron import VALIDATION, TokenShards
from lm.config.train import TrainConfig
from lm.data.loader import validation_rows
from lm.metrics.meter import place, reduced


def sent(values: npt.NDArray[np.int64], device: torch.device) -> Tensor:
    """An array on the device; a GPU fetches it while it still works on what it was given before."""
    here = torch.from_numpy(values)
    # From memory that is not pinned the copy would wait for all earlier work.
    return here.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else here


def facing(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs and targets, int64[n, T] both, of rows int64[n, T + 1]; -1, padding, is no input."""
    return rows[:, :-1].clamp_min(0), rows[:, 1:]


def settle(
    outer: Any, config: TrainConfig, device: torch.device, autocast: Any, eos: int | None
) -> None:
    """Run the model twice on nothing, so that compilation and DDP's buckets are done with.

    DDP lays its buckets out anew after the first pass, and sums over three or more processes
    depend on the layout: without this, a resumed run would differ from an undisturbed one.

    Tensors are laid out as in a step: to torch.compile another layout is another model.
    """
    count = config.per_process // config.passes(gpu=device.type == "cuda")
    blank = torch.zeros(count, config.context + 1, dtype=torch.int64, device=device)
    inputs, targets = facing(blank)
    keys = torch.zeros(count, dtype=torch.int64, device=device) if config.dropout else None
    for _ in range(2):
        with autocast:
            loss = outer(inputs, targets, eos=eos, keys=keys, smoothing=config.label_smoothing)
        loss.backward()
    outer.zero_grad(set_to_none=True)


def held_out(config: TrainConfig, tokens: Dataset, cache: Path) -> Tensor:
    """The fixed rows of the validation loss: int64[n, context + 1]."""
    shards = TokenShards(tokens, VALIDATION, cache, config.cache_bytes)
    rows = validation_rows(shards, config.context, config.held_out_tokens)
    if config.patience and not len(rows):
        raise UserError(f"train.{config.name}.patience: there are no held-out tokens to judge by")
    return torch.from_numpy(rows)


@torch.no_grad()
def validate(model: nn.Module, fixed: Tensor, autocast: Any, eos: int | None, rows: int) -> float:
    """Mean nats per held-out token.

    Args:
        model: on the device of ``fixed``.
        fixed: int64[n, context + 1], the same on every process; each takes its share.
        autocast: as in training.
        eos: as in ``Decoder.forward``.
        rows: rows per pass.
    """
    rank, world = place()
    sums = torch.zeros(2, dtype=torch.float64, device=fixed.device)
    share = -(-len(fixed) // world)  # the same for all, since sharded models meet in each pass
    mine = fixed.new_full((share, fixed.shape[1]), -1)
    own = fixed[rank::world]
    mine[: len(own)] = own
    for part in mine.split(rows):
        inputs, targets = facing(part)
        with autocast:
            sums[0] += model(inputs, targets, eos=eos)
        sums[1] += (targets >= 0).sum()
    nats, tokens = reduced(sums).tolist()
    return float(nats / tokens)
