"""Attention maps as text, a byte for each value; imported without torch by what shows them."""

import base64
from collections.abc import Sequence

import numpy as np


def pack_map(rows: Sequence[Sequence[float]]) -> str:
    """Return a square matrix of values from 0 to 1 as base64 of a byte for each."""
    values = np.clip(np.asarray(rows, np.float64), 0, 1)
    return base64.b64encode((255 * values).round().astype(np.uint8).tobytes()).decode()


def unpack_map(text: str) -> list[list[float]]:
    """Return the matrix of ``pack_map``; values are exact to 1/510."""
    values = np.frombuffer(base64.b64decode(text), np.uint8)
    size = round(len(values) ** 0.5)
    rows: list[list[float]] = (values.reshape(size, size) / 255).tolist()
    return rows
