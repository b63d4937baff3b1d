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
from lm.metrics.meter import all_reduce_sum, rank_and_world_size


def to_device(values: npt.NDArray[np.int64], device: torch.device) -> Tensor:
    """An array on the device; a GPU fetches it while it still works on what it was given before."""
    here = torch.from_numpy(values)
    # From memory that is not pinned the copy would wait for all earlier work.
    return here.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else here


def split_inputs_targets(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs and targets, int64[n, T] both, of rows int64[n, T + 1]; -1, padding, is no input."""
    return rows[:, :-1].clamp_min(0), rows[:, 1:]


def warm_up(
    wrapped_model: Any, config: TrainConfig, device: torch.device, autocast: Any, eos_id: int | None
) -> None:
    """Run the model twice on nothing, so that compilation and DDP's buckets are done with.

    DDP lays its buckets out anew after the first pass, and sums over three or more processes
    depend on the layout: without this, a resumed run would differ from an undisturbed one.

    Tensors are laid out as in a step: to torch.compile another layout is another model.
    """
    count = config.sequences_per_process // config.grad_accumulation_steps(
        gpu=device.type == "cuda"
    )
    blank = torch.zeros(count, config.model.context_length + 1, dtype=torch.int64, device=device)
    inputs, targets = split_inputs_targets(blank)
    keys = torch.zeros(count, dtype=torch.int64, device=device) if config.optim.dropout else None
    for _ in range(2):
        with autocast:
            loss = wrapped_model(
                inputs,
                targets,
                eos=eos_id,
                dropout_keys=keys,
                label_smoothing=config.optim.label_smoothing,
            )
        loss.backward()
    wrapped_model.zero_grad(set_to_none=True)


def validation_rows_for(config: TrainConfig, tokens: Dataset, cache: Path) -> Tensor:
    """The fixed rows of the validation loss: int64[n, context + 1]."""
    shards = TokenShards(tokens, VALIDATION, cache, config.data.shard_cache_bytes)
    rows = validation_rows(shards, config.model.context_length, config.effective_validation_tokens)
    if config.optim.early_stopping_patience and not len(rows):
        raise UserError(
            f"train.{config.name}.optim.early_stopping_patience: there are no held-out tokens to judge by"
        )
    return torch.from_numpy(rows)


@torch.no_grad()
def validate(
    model: nn.Module,
    held_out_rows: Tensor,
    autocast: Any,
    eos_id: int | None,
    micro_batch_size: int,
) -> float:
    """Mean nats per held-out token.

    Args:
        model: on the device of ``held_out_rows``.
        held_out_rows: int64[n, context + 1], the same on every process; each takes its share.
        autocast: as in training.
        eos_id: as in ``Decoder.forward``.
        micro_batch_size: rows per pass.
    """
    rank, world = rank_and_world_size()
    sums = torch.zeros(2, dtype=torch.float64, device=held_out_rows.device)
    share = -(
        -len(held_out_rows) // world
    )  # the same for all, since sharded models meet in each pass
    mine = held_out_rows.new_full((share, held_out_rows.shape[1]), -1)
    own = held_out_rows[rank::world]
    mine[: len(own)] = own
    for part in mine.split(micro_batch_size):
        inputs, targets = split_inputs_targets(part)
        with autocast:
            sums[0] += model(inputs, targets, eos=eos_id)
        sums[1] += (targets >= 0).sum()
    nats, tokens = all_reduce_sum(sums).tolist()
    return float(nats / tokens)
