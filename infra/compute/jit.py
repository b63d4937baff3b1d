"""Compile Python functions to machine code with Numba."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numba

from infra.store.cache_dir import cache_root

P = ParamSpec("P")
R = TypeVar("R")


ROOT = Path(__file__).parent.parent.parent
_IMPORT = re.compile(
    rb"^\s*(?:from ((?:infra|lm|tasks)[\w.]*) import (\([^)]*\)|[^\n]*)|import ((?:infra|lm|tasks)[\w.]*))",
    re.MULTILINE,
)


def jit_sources(root: Path) -> dict[str, bytes]:
    """Read the project's files that define kernels and all that these import, by dotted name, sorted.

    A kernel takes the values of imported constants into its machine code.
    """
    files: dict[str, bytes] = {}
    for package in ("infra", "lm", "tasks"):
        for path in (root / package).rglob("*.py"):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            files[name.removesuffix(".__init__")] = path.read_bytes()
    queue = [name for name, text in files.items() if re.search(rb"^@jit\b", text, re.MULTILINE)]
    wanted = set(queue)
    while queue:
        for module, names, plain in _IMPORT.findall(files[queue.pop()]):
            base = (module or plain).decode()
            imported = {base, *(f"{base}.{name.decode()}" for name in re.findall(rb"\w+", names))}
            queue += (imported & files.keys()) - wanted
            wanted |= imported & files.keys()
    return {name: files[name] for name in sorted(wanted)}


# Numba's cache on disk is keyed by the file of a kernel. The kernels it calls and constants of other
# files are compiled into it, so after a change to those the old machine code would still run.
numba_config: Any = numba.config
_version = hashlib.sha256(b"".join(jit_sources(ROOT).values())).hexdigest()[:16]
numba_config.CACHE_DIR = str(Path(numba_config.CACHE_DIR or cache_root() / "kernels") / _version)


def kernel_folder() -> Path:
    """Return the folder of the kernels that this version of the code uses."""
    return Path(numba_config.CACHE_DIR)


def jit(function: Callable[P, R]) -> Callable[P, R]:
    """Compile ``function`` with Numba: no Python objects, no GIL held, machine code cached on disk.

    The compiled function keeps the signature of the Python one. Kernels run on one core; the
    cluster runs many of them side by side.
    """
    compiled: Any = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return cast("Callable[P, R]", compiled)


def jit_inline(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a kernel whose code is inlined into its callers.

    A call that passes arrays costs tens of nanoseconds, which dominates inside a loop over words.
    Compiling takes longer, so only small functions of inner loops are inlined.
    """
    compiled: Any = numba.njit(inline="always", nogil=True, error_model="numpy")(function)
    return cast("Callable[P, R]", compiled)
