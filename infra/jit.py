"""The one way in which this project compiles a Python function to machine code."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile ``function`` with Numba: no Python objects, no GIL held, machine code cached on disk.

    The compiled function keeps the signature of the Python one. Kernels run on one core; the
    cluster runs many of them side by side.
    """
    compiled: Any = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return cast("Callable[P, R]", compiled)
