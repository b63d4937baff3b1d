"""The order of preference among copies: numbers per document, the smaller ones preferred."""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

F64 = npt.NDArray[np.float64]

SIMPLE_KEYS = ("source", "longest", "shortest", "newest", "oldest")
_LENGTH_KEYS = ("longest", "shortest")
_DATE = re.compile(r"(\d{4})(?:-?(\d{2})(?:-?(\d{2}))?)?")


def required_signals(prefer: Sequence[str]) -> set[str]:
    """The annotations that an order looks at."""
    return {"characters" if key in _LENGTH_KEYS else key.partition(":")[2] for key in prefer} - {""}


def rank_keys(
    prefer: Sequence[str], source_index: int, documents: pa.Table, annotations: pa.Table
) -> F64:
    """What each of n documents counts for, by key of the order.

    Args:
        prefer: keys of the recipe's ``select.prefer``.
        source_index: the source's place in the recipe.
        documents: n rows with ``date``.
        annotations: n rows with `required_signals(order)`.

    Returns:
        float64[n, len(order)]. A document without a date comes after all that have one.
    """
    out = np.zeros((annotations.num_rows, len(prefer)))
    for place, key in enumerate(prefer):
        if key == "source":
            out[:, place] = source_index
        elif key in _LENGTH_KEYS:
            sign = -1.0 if key == "longest" else 1.0
            out[:, place] = sign * annotations["characters"].to_numpy()
        elif key in ("newest", "oldest"):
            days = np.array([_date_key(value) for value in documents["date"].to_pylist()])
            found = -days if key == "newest" else days
            out[:, place] = np.where(np.isnan(days), np.inf, found)
        else:
            way, _, name = key.partition(":")
            values = annotations[name].to_numpy().astype(np.float64)
            out[:, place] = -values if way == "highest" else values
    return out


def _date_key(date: str | None) -> float:
    """A date as a number in its order; NaN if there is none."""
    found = _DATE.match(date or "")
    if found is None:
        return float("nan")
    year, month, day = (int(part or 0) for part in found.groups())
    return float(10_000 * year + 100 * month + day)
