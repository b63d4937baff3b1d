"""The cache folder of this machine: fetched files, machine code, work in progress."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

ENV_VAR = "GRISTMILL_CACHE"
# Interrupted crawls and training runs, digests of input files, compiled kernels, copies of blocks of
# token shards, of models and of indexes from remote stores.
STALE_FOLDERS = ("spool", "train", "inputs", "kernels", "tokens", "exports", "indexes")
MAX_AGE_S = 30 * 24 * 3600.0


def cache_root() -> Path:
    """``$GRISTMILL_CACHE``, else ``gristmill`` below ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    named = os.environ.get(ENV_VAR)
    if named:
        return Path(named).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "gristmill"


def find_stale(keep: Path) -> dict[Path, int]:
    """List work, digests and machine code that were not used for 30 days, with their bytes.

    Args:
        keep: the folder of the kernels that this version of the code uses.
    """
    root = cache_root()
    entries = [path for kind in STALE_FOLDERS for path in root.glob(f"{kind}/*")]
    stale = {}
    for path in (*entries, *root.glob("code-*.json")):
        try:
            # Times of files alone: looking into a folder counts as an access to it.
            stats = [file.stat() for file in (path, *path.rglob("*")) if file.is_file()]
            times = [max(stat.st_mtime, stat.st_atime) for stat in stats]
            newest = max(times, default=path.stat().st_mtime)
        except FileNotFoundError:
            continue  # a run has deleted it meanwhile, so it is in use
        if path != keep and time.time() - newest > MAX_AGE_S:
            stale[path] = sum(stat.st_size for stat in stats)
    return stale


def delete_stale(stale: Iterable[Path]) -> None:
    """Delete what ``find_stale`` has listed."""
    for path in stale:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a whole file or none: under a temporary name in its folder, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            write(out)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
