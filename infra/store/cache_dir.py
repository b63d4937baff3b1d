"""Where this machine keeps what can be had again: fetched files, machine code, work in progress."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

ENV_VAR = "GRISTMILL_CACHE"


def cache_root() -> Path:
    """``$GRISTMILL_CACHE``, else ``gristmill`` below ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    named = os.environ.get(ENV_VAR)
    if named:
        return Path(named).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "gristmill"


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Make a file whole or not at all: written beside its place, then renamed into it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            write(out)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
