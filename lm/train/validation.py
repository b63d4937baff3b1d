"""Forward and backward passes without an update: compile warm-up and validation."""

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
from lm.distributed.ranks import all_reduce_sum, rank_and_world_size


def to_device(values: npt.NDArray[np.int64], device: torch.device) -> Tensor:
    """Return an array on the device; a GPU copies it while it still computes."""
    tensor = torch.from_numpy(values)
    if device.type != "cuda":
        return tensor
    # From memory that is not pinned, the copy would wait for all earlier work.
    return tensor.pin_memory().to(device, non_blocking=True)


def split_inputs_targets(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return inputs and targets, int64[n, T] each, of rows int64[n, T + 1].

    The padding -1 stays in the targets, which ignore it; in the inputs it becomes 0.
    """
    return rows[:, :-1].clamp_min(0), rows[:, 1:]


def warm_up(
    wrapped_model: Any, config: TrainConfig, device: torch.device, autocast: Any, eos_id: int | None
) -> None:
    """Run two passes over zeros, after which compilation and DDP's buckets are final.

    DDP rearranges its buckets after the first pass, and sums over three or more processes depend on
    the arrangement: without this, a resumed run would differ from an uninterrupted one.

    Tensors have the strides that they have in a step: torch.compile would compile for others again.
    """
    count = config.sequences_per_process // config.grad_accumulation_steps(
        gpu=device.type == "cuda"
    )
    rows = torch.zeros(count, config.model.context_length + 1, dtype=torch.int64, device=device)
    inputs, targets = split_inputs_targets(rows)
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
    """Return the fixed rows of the validation loss, int64[n, context_length + 1].

    Raises:
        UserError: if early stopping needs them and there are none.
    """
    shards = TokenShards(tokens, VALIDATION, cache, config.data.shard_cache_bytes)
    rows = validation_rows(shards, config.model.context_length, config.effective_validation_tokens)
    if config.optim.early_stopping_patience and not len(rows):
        raise UserError(
            f"train.{config.name}.optim.early_stopping_patience needs held-out tokens, but the "
            "token shards have none; set tokenize.validation_fraction above 0"
        )
    return torch.from_numpy(rows)


@torch.no_grad()
def validate(
    model: nn.Module,
    validation_rows: Tensor,
    autocast: Any,
    eos_id: int | None,
    micro_batch_size: int,
) -> float:
    """Return the mean loss in nats per held-out token.

    Args:
        model: on the device of ``validation_rows``.
        validation_rows: int64[n, context_length + 1], the same on every process; each takes a part.
        autocast: as in training.
        eos_id: as in ``Decoder.forward``.
        micro_batch_size: rows per pass.
    """
    rank, world_size = rank_and_world_size()
    sums = torch.zeros(2, dtype=torch.float64, device=validation_rows.device)
    # Every process makes the same number of passes, because sharded models synchronize in each.
    count = -(-len(validation_rows) // world_size)
    rows = validation_rows.new_full((count, validation_rows.shape[1]), -1)
    own = validation_rows[rank::world_size]
    rows[: len(own)] = own
    for micro_batch in rows.split(micro_batch_size):
        inputs, targets = split_inputs_targets(micro_batch)
        with autocast:
            sums[0] += model(inputs, targets, eos=eos_id)
        sums[1] += (targets >= 0).sum()
    nats, tokens = all_reduce_sum(sums).tolist()
    return float(nats / tokens)
