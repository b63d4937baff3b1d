"""The order of preference among copies: numbers per document, the smaller ones preferred."""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

F64 = npt.NDArray[np.float64]

SIMPLE = ("source", "longest", "shortest", "newest", "oldest")
_LENGTH = ("longest", "shortest")
_DATE = re.compile(r"(\d{4})(?:-?(\d{2})(?:-?(\d{2}))?)?")


def signals(order: Sequence[str]) -> set[str]:
    """The annotations that an order looks at."""
    return {"characters" if key in _LENGTH else key.partition(":")[2] for key in order} - {""}


def ranks(order: Sequence[str], source: int, documents: pa.Table, notes: pa.Table) -> F64:
    """What each of n documents counts for, by key of the order.

    Args:
        order: keys of the recipe's ``select.survivor``.
        source: the source's place in the recipe.
        documents: n rows with ``date``.
        notes: n rows with `signals(order)`.

    Returns:
        float64[n, len(order)]. A document without a date comes after all that have one.
    """
    out = np.zeros((notes.num_rows, len(order)))
    for place, key in enumerate(order):
        if key == "source":
            out[:, place] = source
        elif key in _LENGTH:
            sign = -1.0 if key == "longest" else 1.0
            out[:, place] = sign * notes["characters"].to_numpy()
        elif key in ("newest", "oldest"):
            days = np.array([_day(value) for value in documents["date"].to_pylist()])
            found = -days if key == "newest" else days
            out[:, place] = np.where(np.isnan(days), np.inf, found)
        else:
            way, _, name = key.partition(":")
            values = notes[name].to_numpy().astype(np.float64)
            out[:, place] = -values if way == "highest" else values
    return out


def _day(date: str | None) -> float:
    """A date as a number in its order; NaN if there is none."""
    found = _DATE.match(date or "")
    if found is None:
        return float("nan")
    year, month, day = (int(part or 0) for part in found.groups())
    return float(10_000 * year + 100 * month + day)
