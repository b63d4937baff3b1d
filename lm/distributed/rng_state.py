"""The random states of a process: torch's on CPU and GPU, numpy's, Python's."""

import json
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def get_rng_state() -> dict[str, Any]:
    """Of every generator of this process."""
    name, keys, at, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - what others draw from
    states: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": json.dumps([name, np.asarray(keys).tolist(), at, has_gauss, cached]),
        "python": json.dumps(random.getstate()),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_rng_state(states: Mapping[str, Any]) -> None:
    """Take back what ``get_rng_state`` gave."""
    torch.set_rng_state(states["torch"])
    name, keys, at, has_gauss, cached = json.loads(states["numpy"])
    np.random.set_state((name, np.array(keys, np.uint32), at, has_gauss, cached))  # noqa: NPY002
    version, values, gauss = json.loads(states["python"])
    random.setstate((version, tuple(values), gauss))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
