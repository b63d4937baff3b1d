"""The validation loss: over a fixed set, shared out among the processes, weighted by tokens."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from infra.dataset import Dataset
from infra.errors import UserError
from infra.tokens import VALIDATION, TokenShards
from tasks.train.config import TrainConfig
from tasks.train.feed import validation_rows
from tasks.train.meter import place, reduced


def held_out(config: TrainConfig, tokens: Dataset, cache: Path) -> Tensor:
    """The fixed rows of the validation loss: int64[n, context + 1]."""
    shards = TokenShards(tokens, VALIDATION, cache, config.cache_bytes)
    rows = validation_rows(shards, config.context, config.validation_tokens)
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
        targets = part[:, 1:]
        with autocast:
            sums[0] += model(part[:, :-1].clamp_min(0), targets, eos=eos)
        sums[1] += (targets >= 0).sum()
    nats, tokens = reduced(sums).tolist()
    return float(nats / tokens)
