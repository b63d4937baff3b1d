"""Data parallelism: distribute one model over processes. Models know nothing of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard
from torch.nn.parallel import DistributedDataParallel

from lm.config.loop import LoopConfig
from lm.distributed.devices import gpu_count, require_gpus, uses_gpus
from lm.distributed.ranks import rank_and_world_size
from lm.models.neural_lm import TrainableModel


def pick_device(config: LoopConfig, local_rank: int) -> torch.device:
    """Return the device of this process.

    Raises:
        UserError: if the recipe asks for GPUs and there are too few.
    """
    gpus = gpu_count()
    if uses_gpus(config, gpus):
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
        return device
    require_gpus(config, gpus)
    return torch.device("cpu")


def parallelize(model: TrainableModel, config: LoopConfig, device: torch.device) -> Any:
    """Return the model as the loop calls it: compiled, and data parallel over several processes."""
    if rank_and_world_size()[1] > 1:
        return wrap_data_parallel(model, config, device)
    return torch.compile(model) if config.run.compile else model


def wrap_data_parallel(model: TrainableModel, config: LoopConfig, device: torch.device) -> Any:
    """Return the model, data parallel over all processes, even if there is only one.

    fsdp shards ``model`` in place, block by block (Zhao et al. 2023, arXiv:2304.11277), and
    compiles blocks; ddp wraps the whole model.
    """
    if config.run.data_parallel == "fsdp":
        mesh = init_device_mesh(device.type, (rank_and_world_size()[1],))
        for block in model.layers():
            if config.run.compile:
                block.compile()
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
        return model
    inner: Any = torch.compile(model) if config.run.compile else model
    ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(inner, device_ids=ids, gradient_as_bucket_view=True)


def shard_rows(own: Tensor) -> Tensor:
    """Return the rows of a step over all processes, each of which has its own, as one tensor.

    A checkpoint of it can be divided among another number of processes.
    """
    world_size = rank_and_world_size()[1]
    if world_size == 1:
        return own
    mesh = init_device_mesh(own.device.type, (world_size,))
    return DTensor.from_local(own, mesh, [Shard(0)], run_check=False)


@contextmanager
def gradient_sync(wrapped_model: Any, *, enabled: bool) -> Iterator[None]:
    """Set whether a backward pass reduces gradients: once per step, in its last pass."""
    if isinstance(wrapped_model, FSDPModule):
        wrapped_model.set_requires_gradient_sync(enabled)
        yield
    elif enabled or not isinstance(wrapped_model, DistributedDataParallel):
        yield
    else:
        with wrapped_model.no_sync():
            yield


def clip_gradients(model: nn.Module, max_norm: float) -> Tensor:
    """Scale the gradients to a norm of at most ``max_norm``; return the norm before, a scalar."""
    norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
