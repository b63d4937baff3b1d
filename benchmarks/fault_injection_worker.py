"""A training process that pauses in one checkpoint, so that it can be killed there.

``torchrun -m benchmarks.fault_injection_worker FOLDER``, with ``KILL_AT`` (``shards`` or ``marker``), ``KILL_STEP``,
the first checkpoint that may be interrupted, and ``KILL_FLAG``, a file that gets the checkpoint's step
when the point is reached; if it exists already, nothing pauses. Everything else is ``lm.train.worker``.
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

PAUSE_S = 3.0  # in which the script must kill


def slow_down() -> None:
    """Pause before the first marker of a step, or after this process's first shards of it."""
    moment, flag = os.environ["KILL_AT"], Path(os.environ["KILL_FLAG"])
    first = marker.checkpoint_name(int(os.environ["KILL_STEP"]))
    mark = marker.write_marker

    def pause_once(folder: str) -> None:
        name = folder.rsplit("/", 1)[-1]
        # A save may be skipped while the previous one is being written; then it is the next one.
        if name >= first and not flag.exists():
            flag.write_text(name.removeprefix("step-"))
            time.sleep(PAUSE_S)

    def slow_mark(checkpoint: marker.Checkpoint) -> None:
        pause_once(checkpoint.storage.url)
        mark(checkpoint)

    class SlowWriter(shard_io.ShardWriter):
        def write_data(self, *args: Any) -> Any:
            written = super().write_data(*args)
            pause_once(str(self.path))
            return written

    if moment == "marker":
        marker.write_marker = slow_mark
    elif moment == "shards":
        shard_io.ShardWriter = SlowWriter  # type: ignore[misc]


if __name__ == "__main__":
    slow_down()
    worker.main(Path(sys.argv[1]))
