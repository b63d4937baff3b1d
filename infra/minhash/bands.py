"""Keys of the bands of MinHash signatures: documents that share one are candidate pairs."""

import numpy as np

from infra.compute.arrays import U8, U32, U64
from infra.compute.jit import jit
from infra.minhash.xxh64 import xxh64


def band_keys(signatures: U32, bands: int) -> U64:
    """Hash each band to an 8-byte key: XXH64 of its values (little-endian), seeded with its number.

    ``signatures`` is uint32[n, bands * rows], the result uint64[n, bands].
    """
    n, width = signatures.shape
    data = np.ascontiguousarray(signatures, dtype="<u4").view(np.uint8).reshape(-1)
    return _hash_bands(data, n, bands, 4 * (width // bands))


@jit
def _hash_bands(data: U8, n: int, bands: int, size: int) -> U64:
    out = np.empty((n, bands), np.uint64)
    for i in range(n):
        for band in range(bands):
            start = (i * bands + band) * size
            out[i, band] = xxh64(data, start, start + size, np.uint64(band))
    return out
