"""Forward and backward passes without an update: compile warm-up and validation."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lm.config.loop import LoopConfig
from lm.distributed.ranks import all_reduce_sum, rank_and_world_size
from lm.objectives.examples import Examples, Objective, Rows


def warm_up(
    wrapped_model: Any,
    objective: Objective,
    rows: Rows,
    config: LoopConfig,
    device: torch.device,
    autocast: Any,
    eos_id: int | None,
    state: Tensor | None,
) -> None:
    """Run two passes over some rows, after which compilation and DDP's buckets are final.

    DDP rearranges its buckets after the first pass, and sums over three or more processes depend on
    the arrangement: without this, a resumed run would differ from an uninterrupted one.

    Tensors have the strides that they have in a step: torch.compile would compile for others again.
    ``state`` is overwritten (``TrainableModel.initial_state``).
    """
    count = len(rows)
    examples = replace(objective(rows, np.arange(count)).to(device), state=state)
    keys = (
        torch.zeros(count, dtype=torch.int64, device=device) if config.uses_dropout_keys else None
    )
    for _ in range(2):
        with autocast:
            loss = wrapped_model(
                examples.inputs,
                examples.targets,
                **examples.extra_inputs(),
                eos=eos_id,
                dropout_keys=keys,
                label_smoothing=config.optim.label_smoothing,
            )
        loss.backward()
    wrapped_model.zero_grad(set_to_none=True)


@torch.no_grad()
def validate(
    model: nn.Module, examples: Examples, autocast: Any, eos_id: int | None, micro_batch_size: int
) -> float:
    """Return the mean loss in nats per held-out target.

    Args:
        model: on the device of the examples.
        examples: the same on every process; each takes a part.
        autocast: as in training.
        eos_id: as in ``NeuralLM.forward``.
        micro_batch_size: examples per pass.
    """
    rank, world_size = rank_and_world_size()
    sums = torch.zeros(2, dtype=torch.float64, device=examples.inputs.device)
    # Every process makes the same number of passes, because sharded models synchronize in each: where
    # its part is shorter, it takes the last example once more, without targets.
    numbers = torch.arange(rank, -(-len(examples) // world_size) * world_size, world_size)
    numbers = numbers.to(examples.inputs.device)
    is_own = numbers < len(examples)
    own = examples.map(lambda tensor: tensor[numbers.clamp_max(len(examples) - 1)])
    own = replace(own, targets=torch.where(is_own[:, None], own.targets, -1))
    for part in own.split(micro_batch_size):
        with autocast:
            sums[0] += model(part.inputs, part.targets, **part.extra_inputs(), eos=eos_id)
        sums[1] += (part.targets >= 0).sum()
    nats, targets = all_reduce_sum(sums).tolist()
    return float(nats / targets)
