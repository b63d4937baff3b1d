"""XXH64 as a compiled kernel: the 64-bit hash of shingles and of band keys.

The algorithm is Yann Collet's XXH64 (https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md). The
values equal those of the ``xxhash`` package (``xxhash.xxh64_intdigest``).
"""

import numpy as np

from infra.compute.arrays import I64, U8, U64
from infra.compute.jit import jit

P1 = np.uint64(0x9E3779B185EBCA87)
P2 = np.uint64(0xC2B2AE3D27D4EB4F)
P3 = np.uint64(0x165667B19E3779F9)
P4 = np.uint64(0x85EBCA77C2B2AE63)
P5 = np.uint64(0x27D4EB2F165667C5)


@jit
def _rotl(value: np.uint64, bits: int) -> np.uint64:
    return np.uint64(value << np.uint64(bits)) | np.uint64(value >> np.uint64(64 - bits))


@jit
def _round(lane: np.uint64, word: np.uint64) -> np.uint64:
    return _rotl(lane + word * P2, 31) * P1


@jit
def _merge(value: np.uint64, lane: np.uint64) -> np.uint64:
    return (value ^ _round(np.uint64(0), lane)) * P1 + P4


@jit
def load_u64(data: U8, i: np.uint64) -> np.uint64:
    """Load eight bytes from index ``i`` as a little-endian number."""
    # LLVM merges the eight byte loads into one. An unsigned index needs no test for negative values.
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


@jit
def store_u64(data: U8, i: np.uint64, value: np.uint64) -> None:
    """Store a number as eight little-endian bytes at index ``i``."""
    data[i] = np.uint8(value & np.uint64(0xFF))
    data[i + np.uint64(1)] = np.uint8((value >> np.uint64(8)) & np.uint64(0xFF))
    data[i + np.uint64(2)] = np.uint8((value >> np.uint64(16)) & np.uint64(0xFF))
    data[i + np.uint64(3)] = np.uint8((value >> np.uint64(24)) & np.uint64(0xFF))
    data[i + np.uint64(4)] = np.uint8((value >> np.uint64(32)) & np.uint64(0xFF))
    data[i + np.uint64(5)] = np.uint8((value >> np.uint64(40)) & np.uint64(0xFF))
    data[i + np.uint64(6)] = np.uint8((value >> np.uint64(48)) & np.uint64(0xFF))
    data[i + np.uint64(7)] = np.uint8(value >> np.uint64(56))


@jit
def _load_u32(data: U8, i: np.uint64) -> np.uint64:
    return (
        np.uint64(data[i])
        | np.uint64(data[i + np.uint64(1)]) << np.uint64(8)
        | np.uint64(data[i + np.uint64(2)]) << np.uint64(16)
        | np.uint64(data[i + np.uint64(3)]) << np.uint64(24)
    )


@jit
def xxh64(data: U8, start: int, end: int, seed: np.uint64) -> np.uint64:
    """Return XXH64 of ``data[start:end]``."""
    i = np.uint64(start)
    stop = np.uint64(end)
    eight = np.uint64(8)
    value, i = _stripes(data, i, stop, seed)
    while i + eight <= stop:
        value = _mix_u64(value, load_u64(data, i))
        i += eight
    if i + np.uint64(4) <= stop:
        value = _mix_u32(value, _load_u32(data, i))
        i += np.uint64(4)
    while i < stop:
        value = _mix_byte(value, np.uint64(data[i]))
        i += np.uint64(1)
    return _avalanche(value)


@jit
def xxh64_windows(data: U8, starts: I64, count: int, n: int, gap: int, out: U64) -> None:
    """Compute XXH64 (seed 0) of ``data[starts[k] : starts[k + n] - gap]`` for ``count`` windows.

    Windows are short and of irregular length, so branches on their length are often mispredicted.
    After the stripes of 32 bytes, every step that up to 31 remaining bytes can need is executed, and
    a mask selects whether its result is used. ``data`` must extend 31 bytes beyond the last window.
    """
    zero, one = np.uint64(0), np.uint64(1)
    for k in range(count):
        i = np.uint64(starts[k])
        stop = np.uint64(starts[k + n] - gap)
        value, i = _stripes(data, i, stop, zero)
        rest = stop - i
        steps = rest >> np.uint64(3)
        for step in range(3):
            taken = _mix_u64(value, load_u64(data, i + np.uint64(8 * step)))
            value ^= (value ^ taken) & (zero - np.uint64(steps > np.uint64(step)))
        i += rest & np.uint64(24)
        four = (rest >> np.uint64(2)) & one
        value ^= (value ^ _mix_u32(value, _load_u32(data, i))) & (zero - four)
        i += four << np.uint64(2)
        rest &= np.uint64(3)
        for step in range(3):
            taken = _mix_byte(value, np.uint64(data[i + np.uint64(step)]))
            value ^= (value ^ taken) & (zero - np.uint64(rest > np.uint64(step)))
        out[k] = _avalanche(value)


@jit
def _stripes(
    data: U8, i: np.uint64, stop: np.uint64, seed: np.uint64
) -> tuple[np.uint64, np.uint64]:
    """Return the state after all complete stripes of 32 bytes, and where they end."""
    length = stop - i
    if length < np.uint64(32):
        return seed + P5 + length, i
    v1 = seed + P1 + P2
    v2 = seed + P2
    v3 = seed
    v4 = seed - P1
    while i + np.uint64(32) <= stop:
        v1 = _round(v1, load_u64(data, i))
        v2 = _round(v2, load_u64(data, i + np.uint64(8)))
        v3 = _round(v3, load_u64(data, i + np.uint64(16)))
        v4 = _round(v4, load_u64(data, i + np.uint64(24)))
        i += np.uint64(32)
    value = _rotl(v1, 1) + _rotl(v2, 7) + _rotl(v3, 12) + _rotl(v4, 18)
    return _merge(_merge(_merge(_merge(value, v1), v2), v3), v4) + length, i


@jit
def _mix_u64(value: np.uint64, word: np.uint64) -> np.uint64:
    return _rotl(value ^ _round(np.uint64(0), word), 27) * P1 + P4


@jit
def _mix_u32(value: np.uint64, word: np.uint64) -> np.uint64:
    return _rotl(value ^ (word * P1), 23) * P2 + P3


@jit
def _mix_byte(value: np.uint64, byte: np.uint64) -> np.uint64:
    return _rotl(value ^ (byte * P5), 11) * P1


@jit
def _avalanche(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> np.uint64(33))) * P2
    value = (value ^ (value >> np.uint64(29))) * P3
    return value ^ (value >> np.uint64(32))
