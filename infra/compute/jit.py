"""The one way in which this project compiles a Python function to machine code."""

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
    """The project's files that define kernels and all that these import, by dotted name, sorted.

    A kernel takes the values of imported constants into its machine code.
    """
    files: dict[str, bytes] = {}
    for package in ("infra", "lm", "tasks"):
        for path in (root / package).rglob("*.py"):
            name = ".".join(path.relative_to(root).with_suffix("").parts)
            files[name.removesuffix(".__init__")] = path.read_bytes()
    found = [name for name, text in files.items() if re.search(rb"^@jit\b", text, re.MULTILINE)]
    wanted = set(found)
    while found:
        for module, names, plain in _IMPORT.findall(files[found.pop()]):
            base = (module or plain).decode()
            held = {base, *(f"{base}.{name.decode()}" for name in re.findall(rb"\w+", names))}
            found += (held & files.keys()) - wanted
            wanted |= held & files.keys()
    return {name: files[name] for name in sorted(wanted)}


def _digest(sources: dict[str, bytes]) -> str:
    hasher = hashlib.sha256()
    for text in sources.values():
        hasher.update(text)
    return hasher.hexdigest()[:16]


# Numba's cache on disk looks at the file of a kernel, not at the kernels it calls and at constants
# from elsewhere, which are compiled into it: after a change to one of those, the old machine code
# would still run.
numba_config: Any = numba.config
numba_config.CACHE_DIR = str(
    Path(numba_config.CACHE_DIR or cache_root() / "kernels") / _digest(jit_sources(ROOT))
)


def kernel_folder() -> Path:
    """The folder of the machine code of this version of the project."""
    return Path(numba_config.CACHE_DIR)


def jit(function: Callable[P, R]) -> Callable[P, R]:
    """Compile ``function`` with Numba: no Python objects, no GIL held, machine code cached on disk.

    The compiled function keeps the signature of the Python one. Kernels run on one core; the
    cluster runs many of them side by side.
    """
    compiled: Any = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return cast("Callable[P, R]", compiled)


def jit_inline(function: Callable[P, R]) -> Callable[P, R]:
    """A kernel whose code becomes part of its callers'.

    A call that passes arrays costs tens of nanoseconds; inside a loop over words that is most of
    the time. Compiling takes longer, so only small functions of inner loops are inlined.
    """
    compiled: Any = numba.njit(inline="always", nogil=True, error_model="numpy")(function)
    return cast("Callable[P, R]", compiled)
