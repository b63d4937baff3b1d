"""XXH64 as a compiled kernel: the 64-bit hash of shingles and of band keys.

The algorithm is Yann Collet's XXH64 (https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md). The
values equal those of the ``xxhash`` package (``xxhash.xxh64_intdigest``).
"""

import numpy as np
import numpy.typing as npt

from infra.jit import kernel

P1 = np.uint64(0x9E3779B185EBCA87)
P2 = np.uint64(0xC2B2AE3D27D4EB4F)
P3 = np.uint64(0x165667B19E3779F9)
P4 = np.uint64(0x85EBCA77C2B2AE63)
P5 = np.uint64(0x27D4EB2F165667C5)


@kernel
def _rotl(value: np.uint64, bits: int) -> np.uint64:
    return np.uint64(value << np.uint64(bits)) | np.uint64(value >> np.uint64(64 - bits))


@kernel
def _round(lane: np.uint64, word: np.uint64) -> np.uint64:
    return _rotl(lane + word * P2, 31) * P1


@kernel
def _merge(value: np.uint64, lane: np.uint64) -> np.uint64:
    return (value ^ _round(np.uint64(0), lane)) * P1 + P4


@kernel
def _u64(data: npt.NDArray[np.uint8], i: np.uint64) -> np.uint64:
    # Little-endian, spelt byte by byte: LLVM joins the eight loads into one. The unsigned index
    # spares the test for a negative one.
    return (
        np.uint64(data[i])
        | np.uint64(data[i + np.uint64(1)]) << np.uint64(8)
        | np.uint64(data[i + np.uint64(2)]) << np.uint64(16)
        | np.uint64(data[i + np.uint64(3)]) << np.uint64(24)
        | np.uint64(data[i + np.uint64(4)]) << np.uint64(32)
        | np.uint64(data[i + np.uint64(5)]) << np.uint64(40)
        | np.uint64(data[i + np.uint64(6)]) << np.uint64(48)
        | np.uint64(data[i + np.uint64(7)]) << np.uint64(56)
    )


@kernel
def _u32(data: npt.NDArray[np.uint8], i: np.uint64) -> np.uint64:
    return (
        np.uint64(data[i])
        | np.uint64(data[i + np.uint64(1)]) << np.uint64(8)
        | np.uint64(data[i + np.uint64(2)]) << np.uint64(16)
        | np.uint64(data[i + np.uint64(3)]) << np.uint64(24)
    )


@kernel
def xxh64(data: npt.NDArray[np.uint8], start: int, end: int, seed: np.uint64) -> np.uint64:
    """XXH64 of ``data[start:end]``."""
    i = np.uint64(start)
    stop = np.uint64(end)
    eight = np.uint64(8)
    if stop - i >= np.uint64(32):
        v1 = seed + P1 + P2
        v2 = seed + P2
        v3 = seed
        v4 = seed - P1
        while i + np.uint64(32) <= stop:
            v1 = _round(v1, _u64(data, i))
            v2 = _round(v2, _u64(data, i + eight))
            v3 = _round(v3, _u64(data, i + np.uint64(16)))
            v4 = _round(v4, _u64(data, i + np.uint64(24)))
            i += np.uint64(32)
        value = _rotl(v1, 1) + _rotl(v2, 7) + _rotl(v3, 12) + _rotl(v4, 18)
        value = _merge(_merge(_merge(_merge(value, v1), v2), v3), v4)
    else:
        value = seed + P5
    value += np.uint64(end - start)
    while i + eight <= stop:
        value = _rotl(value ^ _round(np.uint64(0), _u64(data, i)), 27) * P1 + P4
        i += eight
    if i + np.uint64(4) <= stop:
        value = _rotl(value ^ (_u32(data, i) * P1), 23) * P2 + P3
        i += np.uint64(4)
    while i < stop:
        value = _rotl(value ^ (np.uint64(data[i]) * P5), 11) * P1
        i += np.uint64(1)
    value = (value ^ (value >> np.uint64(33))) * P2
    value = (value ^ (value >> np.uint64(29))) * P3
    return value ^ (value >> np.uint64(32))
