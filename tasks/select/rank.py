"""The order of preference among duplicates: numbers per document, smaller ones preferred."""

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from infra.compute.arrays import F64

SIMPLE_KEYS = ("source", "longest", "shortest", "newest", "oldest")
_LENGTH_KEYS = ("longest", "shortest")
_DATE = re.compile(r"(\d{4})(?:-?(\d{2})(?:-?(\d{2}))?)?")


def required_signals(prefer: Sequence[str]) -> set[str]:
    """Return the annotations that an order of preference reads."""
    return {"characters" if key in _LENGTH_KEYS else key.partition(":")[2] for key in prefer} - {""}


def rank_keys(
    prefer: Sequence[str], source_index: int, documents: pa.Table, annotations: pa.Table
) -> F64:
    """Return the sort keys of n documents, one per criterion: float64[n, len(prefer)].

    Reads ``date`` of the documents and `required_signals` of the annotations. A document without a
    date comes after all that have one.
    """
    out = np.zeros((annotations.num_rows, len(prefer)))
    for index, key in enumerate(prefer):
        if key == "source":
            out[:, index] = source_index
        elif key in _LENGTH_KEYS:
            sign = -1.0 if key == "longest" else 1.0
            out[:, index] = sign * annotations["characters"].to_numpy()
        elif key in ("newest", "oldest"):
            days = np.array([_date_key(value) for value in documents["date"].to_pylist()])
            ordered = -days if key == "newest" else days
            out[:, index] = np.where(np.isnan(days), np.inf, ordered)
        else:
            direction, _, name = key.partition(":")
            values = annotations[name].to_numpy().astype(np.float64)
            out[:, index] = -values if direction == "highest" else values
    return out


def _date_key(date: str | None) -> float:
    """Return a date as a number that sorts like it; NaN if there is none."""
    match = _DATE.match(date or "")
    if match is None:
        return float("nan")
    year, month, day = (int(part or 0) for part in match.groups())
    return float(10_000 * year + 100 * month + day)
