"""The one way in which this project compiles a Python function to machine code."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba

from infra.cache import cache_root

P = ParamSpec("P")
R = TypeVar("R")


def _sources() -> str:
    """Digest of every file of the project that defines a kernel."""
    hasher = hashlib.sha256()
    root = Path(__file__).parent.parent
    for package in ("infra", "tasks"):
        for path in sorted((root / package).rglob("*.py")):
            text = path.read_bytes()
            if b"@kernel" in text:
                hasher.update(text)
    return hasher.hexdigest()[:16]


# Numba's cache on disk looks at the file of a kernel, not at the kernels it calls, whose code is
# compiled into it: after a change to one of those, the old machine code would still run.
settings: Any = numba.config
settings.CACHE_DIR = str(Path(settings.CACHE_DIR or cache_root() / "kernels") / _sources())


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile ``function`` with Numba: no Python objects, no GIL held, machine code cached on disk.

    The compiled function keeps the signature of the Python one. Kernels run on one core; the
    cluster runs many of them side by side.
    """
    compiled: Any = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return cast("Callable[P, R]", compiled)
