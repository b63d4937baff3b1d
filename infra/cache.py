"""Where this machine keeps what can be had again: fetched files, machine code, work in progress."""

import os
from pathlib import Path

VARIABLE = "GRISTMILL_CACHE"


def cache_root() -> Path:
    """``$GRISTMILL_CACHE``, else ``gristmill`` below ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "gristmill"
