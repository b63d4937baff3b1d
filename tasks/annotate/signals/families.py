"""All quality signals of a column of texts, family by family."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.schemas.signals import FAMILIES, SIGNALS
from tasks.annotate.signals.text_block import TextBlock, iter_blocks

SignalColumns = dict[str, npt.NDArray[Any]]

# One module per declared family. Each has a function ``compute(texts: TextBlock) -> SignalColumns``
# that returns, for every signal of the family, one value per document.
FAMILY_MODULES = tuple(f"tasks.annotate.signals.{family}" for family in FAMILIES)


def _load_families() -> list[Callable[[TextBlock], SignalColumns]]:
    modules = map(import_module, FAMILY_MODULES)
    return [cast("Callable[[TextBlock], SignalColumns]", module.compute) for module in modules]


def compute_signals(text: "pa.Array[Any] | pa.ChunkedArray[Any]") -> SignalColumns:
    """The quality signals of n texts.

    Args:
        text: a string column; a null counts as empty text.

    Returns:
        For every name in `infra.schemas.signals.SIGNALS`, in its order, n values of its type.
    """
    families = _load_families()
    columns: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in SIGNALS}
    for block in iter_blocks(text):
        for compute in families:
            for name, values in compute(block).items():
                columns[name].append(values)
    return {name: np.concatenate(arrays) for name, arrays in columns.items()}
