"""Process groups for the tests of training."""

import multiprocessing
from collections.abc import Callable
from typing import Any

from torch.multiprocessing.spawn import start_processes


def together(function: Callable[..., None], arguments: tuple[Any, ...], processes: int) -> None:
    """Call ``function(rank, *arguments)`` in new processes and wait for all of them.

    They are forked from a server that has imported what they need: that takes seconds each.
    """
    multiprocessing.set_forkserver_preload(["torch._dynamo", "lm.train.loop"])
    start_processes(function, arguments, processes, start_method="forkserver")
