"""A training process that takes its time in one checkpoint, so that it can be killed there.

``torchrun -m benchmarks.fault_injection_worker FOLDER``, with ``KILL_AT`` (``shards`` or ``marker``), ``KILL_STEP``,
the first checkpoint that will do, and ``KILL_FLAG``, a file that gets the checkpoint's step when the
point is reached; where it is there already, nothing is slow. Everything else is ``lm.train.worker`` as it is.
"""

from infra.compute.processes import die_with_parent

if __name__ == "__main__":
    die_with_parent()

import os
import sys
import time
from pathlib import Path
from typing import Any

from lm.checkpoint import marker, shard_io
from lm.train import worker

PAUSE_S = 3.0  # seconds in which the script has to strike


def slow_down() -> None:
    """Pause before the first marker of a step, or after this process's first shards of it."""
    at, flag = os.environ["KILL_AT"], Path(os.environ["KILL_FLAG"])
    least = marker.checkpoint_name(int(os.environ["KILL_STEP"]))
    mark = marker.write_marker

    def reach(folder: str) -> None:
        name = folder.rsplit("/", 1)[-1]
        # A save is left out while the one before is still being written: the next one will do.
        if name >= least and not flag.exists():
            flag.write_text(name.removeprefix("step-"))
            time.sleep(PAUSE_S)

    def slow_mark(folder: Any, marker: Any) -> None:
        reach(folder.url)
        mark(folder, marker)

    class SlowWriter(shard_io.ShardWriter):
        def write_data(self, *given: Any) -> Any:
            written = super().write_data(*given)
            reach(str(self.path))
            return written

    if at == "marker":
        marker.write_marker = slow_mark
    elif at == "shards":
        shard_io.ShardWriter = SlowWriter  # type: ignore[misc]


if __name__ == "__main__":
    slow_down()
    worker.main(Path(sys.argv[1]))
