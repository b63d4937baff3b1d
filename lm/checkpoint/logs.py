"""The log of a run goes with its checkpoints, so that any machine that goes on has all of it."""

import json
import os
import shutil
from functools import partial
from pathlib import Path

from infra.store.cache_dir import put
from lm.metrics.goodput import ATTEMPTS, METRICS
from lm.metrics.logger import read

LOGS = (ATTEMPTS, METRICS)


def pack(run: Path, folder: Path) -> list[Path]:
    """Copy a run's log so far to a checkpoint's shards.

    It may hold lines of later steps, and the last one may be torn: whoever goes on takes them back.

    Returns:
        The copies.
    """
    found = [name for name in LOGS if (run / name).exists()]
    for name in found:
        with (run / name).open("rb") as source, (folder / name).open("wb") as copy:
            shutil.copyfileobj(source, copy)
            copy.flush()
            os.fsync(copy.fileno())  # the marker will vouch for its length
    return [folder / name for name in found]


def unpack(folder: Path, run: Path, step: int) -> None:
    """Take a checkpoint's log over, unless the one on this machine begins with it.

    Then this machine wrote it, and perhaps lines after it that tell what is to be done again.

    Args:
        folder: of the checkpoint.
        run: the folder that the run works in.
        step: steps done at the checkpoint.
    """
    pairs = [(run / name, folder / name) for name in LOGS if (folder / name).exists()]
    if all(_begins(mine, theirs, step) for mine, theirs in pairs):
        return
    for mine, theirs in pairs:
        mine.parent.mkdir(parents=True, exist_ok=True)
        with theirs.open("rb") as source:
            put(mine, partial(shutil.copyfileobj, source))


def _begins(mine: Path, theirs: Path, step: int) -> bool:
    first = _until(theirs, step)
    return _until(mine, step)[: len(first)] == first


def _until(path: Path, step: int) -> list[str]:
    """The lines up to so many steps, as text: what is no number does not equal itself."""
    return [json.dumps(line) for line in read(path) if line["step"] <= step]
