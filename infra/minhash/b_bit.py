"""B-bit signatures: four bits of each hash value, enough to estimate a similarity.

The estimator is that of b-bit minwise hashing (Li and Koenig, WWW 2010) for sets that are small
relative to the universe: two values agree by chance in one of 2**b cases, so with b = 4 a fraction P
of equal values means a similarity of ``(P - 1/16) / (1 - 1/16)``. Its standard error at similarity
0.8 and 112 values is 0.039; that of the full values is 0.038.
"""

import numpy as np

from infra.compute.arrays import U8, U32, U64
from infra.compute.jit import jit

COLLISION_PROBABILITY = 1 / 16


def pack(signatures: U32) -> U8:
    """Pack the low four bits of each value, two values per byte, the first in the low half.

    Args:
        signatures: uint32[n, k].

    Returns:
        uint8[n, ceil(k / 2)]; the unused half of the last byte is zero.
    """
    low = (signatures & np.uint32(15)).astype(np.uint8)
    if low.shape[1] % 2:
        low = np.concatenate([low, np.zeros((len(low), 1), np.uint8)], axis=1)
    packed: U8 = low[:, 0::2] | (low[:, 1::2] << np.uint8(4))
    return np.ascontiguousarray(packed)


def as_words(packed: U8) -> U64:
    """Return b-bit signatures as words, uint64[n, words], padded with zeros."""
    padded = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8)))
    return np.ascontiguousarray(padded).view(np.uint64)


@jit
def matching_values(a: U64, b: U64) -> int:
    """Count the equal four-bit values of two b-bit signatures; padding counts as equal."""
    same = 0
    for k in range(len(a)):
        x = a[k] ^ b[k]
        x |= x >> np.uint64(1)
        x |= x >> np.uint64(2)
        x &= np.uint64(0x1111111111111111)
        x = (x + (x >> np.uint64(4))) & np.uint64(0x0303030303030303)
        same += 16 - int(np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56)))
    return same


@jit
def estimate_jaccard(a: U64, b: U64, n_values: int) -> float:
    """Estimate the similarity from two b-bit signatures of ``n_values`` values, from 0 to 1."""
    fraction = (matching_values(a, b) - (16 * len(a) - n_values)) / n_values
    return max(0.0, (fraction - COLLISION_PROBABILITY) / (1.0 - COLLISION_PROBABILITY))
