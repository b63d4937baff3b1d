"""A 64-bit hash that is updated character by character, modeled on the last steps of XXH64."""

import numpy as np

from infra.compute.jit import jit

SEED = np.uint64(0x27D4EB2F165667C5)
_P1 = np.uint64(0x9E3779B185EBCA87)
_P5 = np.uint64(0x27D4EB2F165667C5)


@jit
def update_hash(value: np.uint64, point: int) -> np.uint64:
    """Return the hash extended by one character."""
    value ^= (np.uint64(point) + np.uint64(1)) * _P5
    value = np.uint64(value << np.uint64(11)) | np.uint64(value >> np.uint64(53))
    return np.uint64(value * _P1)
