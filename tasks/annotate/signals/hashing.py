"""Hashes and open-addressing hash sets, shared by the kernels of the signals."""

import numpy as np

from infra.compute.arrays import U64
from infra.compute.jit import jit
from infra.dataset.mixers import fmix64

# FNV-1a: value = (value ^ item) * FNV_PRIME, beginning with FNV_SEED.
FNV_SEED = np.uint64(0xCBF29CE484222325)
FNV_PRIME = np.uint64(0x100000001B3)


@jit
def nonzero_fmix64(value: np.uint64) -> np.uint64:
    """Return ``fmix64`` of a value, or 1 where that is 0, which marks an empty slot."""
    value = fmix64(value)
    return value if value != np.uint64(0) else np.uint64(1)


@jit
def table_size(entries: int) -> int:
    """The power of two that holds ``entries`` keys at most half full."""
    size = 8
    while size < 2 * entries:
        size *= 2
    return size


@jit
def add_to_set(table: U64, size: int, value: np.uint64) -> bool:
    """Add a value that is not 0 to a hash set; return whether the set contained it already.

    The set is the first ``size`` slots of ``table``, a power of two; an empty slot is 0.
    """
    slot = np.int64(value & np.uint64(size - 1))
    while table[slot] != np.uint64(0):
        if table[slot] == value:
            return True
        slot = (slot + 1) & (size - 1)
    table[slot] = value
    return False
