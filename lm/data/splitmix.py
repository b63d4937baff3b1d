"""A number turned into one that looks drawn: what orders and dropout masks are made of."""

from typing import Any

import numpy as np
import numpy.typing as npt


def splitmix64(values: npt.NDArray[np.uint64], key: Any) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele et al. 2014), keyed: a bijection of 64 bit numbers.

    Args:
        values: uint64[...].
        key: a uint64, or uint64[...] that broadcasts with them.
    """
    x = values ^ key
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: npt.NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return mixed
