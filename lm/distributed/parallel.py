"""How one model is spread over processes; the model itself knows nothing of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from lm.config.train import TrainConfig
from lm.launch.preflight import gpu_count, require_gpus, takes_gpus
from lm.metrics.meter import place
from lm.models.decoder import Decoder


def on_gpu(config: TrainConfig) -> bool:
    """Whether the run takes this machine's GPUs."""
    return takes_gpus(config, gpu_count())


def pick_device(config: TrainConfig, local_rank: int) -> torch.device:
    """The device of this process. Raises ``UserError`` if the recipe asks for GPUs there are not."""
    if on_gpu(config):
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
        return device
    require_gpus(config, gpu_count())
    return torch.device("cpu")


def spread(model: Decoder, config: TrainConfig, device: torch.device) -> Any:
    """The model as the loop calls it: compiled, and data parallel if there are more processes."""
    if place()[1] > 1:
        return shared(model, config, device)
    return torch.compile(model) if config.compile else model


def shared(model: Decoder, config: TrainConfig, device: torch.device) -> Any:
    """The model, data parallel over all processes, be it but one.

    fsdp shards ``model`` in place, block by block (Zhao et al. 2023, arXiv:2304.11277), and
    compiles blocks; ddp wraps it whole.
    """
    if config.parallel == "fsdp":
        mesh = init_device_mesh(device.type, (place()[1],))
        for block in model.blocks:
            if config.compile:
                block.compile()
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
        return model
    outer: Any = torch.compile(model) if config.compile else model
    ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(outer, device_ids=ids, gradient_as_bucket_view=True)


@contextmanager
def exchange(outer: Any, *, now: bool) -> Iterator[None]:
    """Whether gradients travel in the backward pass inside: once per step, in its last pass."""
    if isinstance(outer, FSDPModule):
        outer.set_requires_gradient_sync(now)
        yield
    elif now or not isinstance(outer, DistributedDataParallel):
        yield
    else:
        with outer.no_sync():
            yield


def clipped(model: nn.Module, most: float) -> Tensor:
    """Scale the gradients to a norm of at most ``most``; give the norm they had, a scalar."""
    norm = nn.utils.clip_grad_norm_(model.parameters(), most)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
