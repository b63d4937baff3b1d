"""Random states of a process: torch's on CPU and GPU, numpy's and Python's."""

import json
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def get_rng_state() -> dict[str, Any]:
    """Return the state of every generator of this process."""
    # The global generator, because libraries draw from it.
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    states: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": json.dumps([name, np.asarray(keys).tolist(), position, has_gauss, cached]),
        "python": json.dumps(random.getstate()),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_rng_state(states: Mapping[str, Any]) -> None:
    """Restore what ``get_rng_state`` returned."""
    torch.set_rng_state(states["torch"])
    name, keys, position, has_gauss, cached = json.loads(states["numpy"])
    np.random.set_state((name, np.array(keys, np.uint32), position, has_gauss, cached))  # noqa: NPY002
    version, values, gauss = json.loads(states["python"])
    random.setstate((version, tuple(values), gauss))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
