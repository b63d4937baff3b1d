"""Save the log of a run with its checkpoints, so that any machine that resumes it has all of it."""

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
    """Copy a run's log so far beside a checkpoint's shards; return the copies.

    It may hold lines of later steps, and its last line may be torn; a resumed run removes them.
    """
    names = [name for name in LOG_FILES if (run_folder / name).exists()]
    for name in names:
        with (
            (run_folder / name).open("rb") as source,
            (checkpoint_folder / name).open("wb") as copy,
        ):
            shutil.copyfileobj(source, copy)
            copy.flush()
            os.fsync(copy.fileno())  # the marker will record its length
    return [checkpoint_folder / name for name in names]


def restore_logs(checkpoint_folder: Path, run_folder: Path, step: int) -> None:
    """Copy a checkpoint's log to this machine, unless the log here starts with it.

    In that case this machine wrote the log, and lines after ``step`` count as replayed steps.
    """
    pairs = [
        (run_folder / name, checkpoint_folder / name)
        for name in LOG_FILES
        if (checkpoint_folder / name).exists()
    ]
    if all(_starts_with(own, saved, step) for own, saved in pairs):
        return
    for own, saved in pairs:
        own.parent.mkdir(parents=True, exist_ok=True)
        with saved.open("rb") as source:
            write_atomic(own, partial(shutil.copyfileobj, source))


def _starts_with(own: Path, saved: Path, step: int) -> bool:
    lines = _lines_until(saved, step)
    return _lines_until(own, step)[: len(lines)] == lines


def _lines_until(path: Path, step: int) -> list[str]:
    """Return the lines of the first steps as text, because NaN does not equal itself."""
    return [json.dumps(line) for line in read_jsonl(path) if line["step"] <= step]
