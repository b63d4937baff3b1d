"""Rank, node and world size of this process, and sums over all processes."""

import os

from torch import Tensor
from torch.distributed import all_reduce, get_rank, get_world_size, is_initialized


def rank_and_world_size() -> tuple[int, int]:
    """Return ``(rank, number of processes)``; ``(0, 1)`` without a process group."""
    return (get_rank(), get_world_size()) if is_initialized() else (0, 1)


def local_rank() -> int:
    """Return this process's rank on its node, as torchrun sets it."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def global_rank(node: int, first_node: int, local_world_size: int, local_rank: int) -> int:
    """Return the rank of a process when the first node has the first ranks.

    ``node`` and ``first_node`` are numbers that torchrun gave to its node and to the first one.
    """
    index = 0 if node == first_node else node + (node < first_node)
    return index * local_world_size + local_rank


def all_reduce_sum(value: Tensor) -> Tensor:
    """Return the sum over all processes; ``value`` itself holds it, too."""
    if is_initialized():
        all_reduce(value)
    return value
