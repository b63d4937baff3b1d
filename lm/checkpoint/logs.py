"""The log of a run goes with its checkpoints, so that any machine that goes on has all of it."""

import json
import os
import shutil
from functools import partial
from pathlib import Path

from infra.store.cache_dir import write_atomic
from lm.metrics.goodput import ATTEMPTS, METRICS
from lm.metrics.logger import read_jsonl

LOG_FILES = (ATTEMPTS, METRICS)


def save_logs(run_folder: Path, checkpoint_folder: Path) -> list[Path]:
    """Copy a run's log so far to a checkpoint's shards.

    It may hold lines of later steps, and the last one may be torn: whoever goes on takes them back.

    Returns:
        The copies.
    """
    found = [name for name in LOG_FILES if (run_folder / name).exists()]
    for name in found:
        with (
            (run_folder / name).open("rb") as source,
            (checkpoint_folder / name).open("wb") as copy,
        ):
            shutil.copyfileobj(source, copy)
            copy.flush()
            os.fsync(copy.fileno())  # the marker will vouch for its length
    return [checkpoint_folder / name for name in found]


def restore_logs(checkpoint_folder: Path, run_folder: Path, step: int) -> None:
    """Take a checkpoint's log over, unless the one on this machine begins with it.

    Then this machine wrote it, and perhaps lines after it that tell what is to be done again.

    Args:
        checkpoint_folder: of the checkpoint.
        run_folder: the folder that the run works in.
        step: steps done at the checkpoint.
    """
    pairs = [
        (run_folder / name, checkpoint_folder / name)
        for name in LOG_FILES
        if (checkpoint_folder / name).exists()
    ]
    if all(_starts_with(mine, theirs, step) for mine, theirs in pairs):
        return
    for mine, theirs in pairs:
        mine.parent.mkdir(parents=True, exist_ok=True)
        with theirs.open("rb") as source:
            write_atomic(mine, partial(shutil.copyfileobj, source))


def _starts_with(mine: Path, theirs: Path, step: int) -> bool:
    first = _lines_until(theirs, step)
    return _lines_until(mine, step)[: len(first)] == first


def _lines_until(path: Path, step: int) -> list[str]:
    """The lines up to so many steps, as text: what is no number does not equal itself."""
    return [json.dumps(line) for line in read_jsonl(path) if line["step"] <= step]
