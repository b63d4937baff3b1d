"""Dropout that depends on the sample, not on the process that computes it.

A mask is a hash of the sample's key, of the site in the network and of the element's index, so it is
the same on any number of processes, on any device, in any batch, and when activations are recomputed
for the backward pass. There is no random state to save.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from infra.dataset.fingerprint import json_sha256
from infra.dataset.mixers import splitmix64

_MASK_32, _MASK_30 = 0xFFFF_FFFF, 0x3FFF_FFFF


def dropout_keys(seed: int, samples: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return a key below 2^32 for each sample of a run, from its number over all steps."""
    (salt,) = np.frombuffer(bytes.fromhex(json_sha256(["dropout", seed])), "<u8", count=1)
    mixed = splitmix64(samples.astype(np.uint64), salt)
    keys: npt.NDArray[np.int64] = (mixed >> np.uint64(32)).astype(np.int64)
    return keys


def add_step_key(keys: npt.NDArray[np.int64], seed: int, step: int) -> npt.NDArray[np.int64]:
    """Add a key of the step to those of its samples, in the bits above 32, which ``dropout`` ignores.

    It is for what all samples of a step drop alike, on whichever process they are.
    """
    (salt,) = np.frombuffer(bytes.fromhex(json_sha256(["step", seed])), "<u8", count=1)
    step_key = int(splitmix64(np.array([step], np.uint64), salt)[0]) >> 34  # 30 bits
    return keys | np.int64(step_key << 32)


def drop_weights(weight: Tensor, keys_b: Tensor, p: float) -> Tensor:
    """Drop elements of a weight, float[...], by the key of the step (``add_step_key``) and of the site.

    ``keys_b``: int64[B], of ``site_keys``; all samples of a step give the same.
    """
    return dropout(weight[None], keys_b[:1] >> 32, p)[0]


def site_keys(keys_b: Tensor, site: int) -> Tensor:
    """Return the samples' keys, int64[B], for a site in the network; each site has its own masks."""
    mixed = _lowbias32_int(site)
    sample_b, step_b = (keys_b + mixed) & _MASK_32, ((keys_b >> 32) + mixed) & _MASK_30
    return sample_b | (step_b << 32)


def dropout(x: Tensor, keys_b: Tensor | None, p: float) -> Tensor:
    """Set a fraction ``p`` of the elements of ``x``, float[B, ...], to 0 and scale the others.

    Srivastava et al. 2014. ``keys_b``: int64[B], of ``site_keys``; ``None`` drops nothing.
    """
    if keys_b is None or p == 0.0:
        return x
    size = x[0].numel()
    start_b = _lowbias32(keys_b)
    element_n = torch.arange(size, device=x.device) * 0x9E3779B9
    drawn = _lowbias32(element_n + start_b[:, None])
    kept = (drawn >= int(p * (_MASK_32 + 1))).view_as(x)
    return x * kept * (1.0 / (1.0 - p))


def variational_dropout(x_btd: Tensor, keys_b: Tensor | None, p: float) -> Tensor:
    """Drop the same elements at all positions of a sample (Gal & Ghahramani 2016)."""
    if keys_b is None or p == 0.0:
        return x_btd
    return x_btd * dropout(torch.ones_like(x_btd[:, :1]), keys_b, p)


def _lowbias32(x: Tensor) -> Tensor:
    """Mix 32-bit numbers by a bijection without visible structure: Wellons' ``lowbias32``."""
    x = x & _MASK_32  # a copy, of which all else is done in place: that takes half the time
    x ^= x >> 16
    x *= 0x7FEB352D
    x &= _MASK_32
    x ^= x >> 15
    x *= 0x846CA68B
    x &= _MASK_32
    x ^= x >> 16
    return x


def _lowbias32_int(x: int) -> int:
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _MASK_32
    x = ((x ^ (x >> 15)) * 0x846CA68B) & _MASK_32
    return x ^ (x >> 16)
