"""Integer mixers: bijections of 64-bit numbers whose output bits all depend on all input bits.

Hashes of text, data order and dropout are made of them, so their values decide bytes.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from infra.compute.jit import jit


@jit
def fmix64(value: np.uint64) -> np.uint64:
    """Return MurmurHash3's 64-bit finalizer of a number, for kernels."""
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return value ^ (value >> np.uint64(33))


def splitmix64(values: npt.NDArray[np.uint64], key: Any) -> npt.NDArray[np.uint64]:
    """Return the finalizer of SplitMix64 (Steele et al. 2014) of ``values ^ key``, for arrays.

    Args:
        values: uint64[...].
        key: a uint64, or uint64[...] that broadcasts with them.
    """
    x = values ^ key
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: npt.NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return mixed
