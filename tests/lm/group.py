"""Process groups for the tests of training."""

import multiprocessing
from collections.abc import Callable
from typing import Any

from torch.multiprocessing.spawn import start_processes


def run_in_processes(
    function: Callable[..., None], arguments: tuple[Any, ...], processes: int
) -> None:
    """Call ``function(rank, *arguments)`` in new processes and wait for all of them.

    They are forked from a server that has imported torch, which takes seconds per process.
    """
    multiprocessing.set_forkserver_preload(["torch._dynamo", "lm.train.loop"])
    start_processes(function, arguments, processes, start_method="forkserver")
