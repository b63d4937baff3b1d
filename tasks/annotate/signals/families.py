"""All quality signals of a column of texts, family by family."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.schemas.signals import FAMILIES, SIGNALS
from tasks.annotate.signals.text_block import TextBlock, iter_blocks

SignalColumns = dict[str, npt.NDArray[Any]]

# One module per declared family. Each has a function ``compute(texts: TextBlock) -> SignalColumns``
# that returns, for every signal of the family, one value per document.
FAMILY_MODULES = tuple(f"tasks.annotate.signals.{family}" for family in FAMILIES)


def compute_signals(text: "pa.Array[Any] | pa.ChunkedArray[Any]") -> SignalColumns:
    """Return n values for every name in ``SIGNALS``, in its order; a null counts as empty text."""
    families: list[Callable[[TextBlock], SignalColumns]] = [
        import_module(module).compute for module in FAMILY_MODULES
    ]
    columns: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in SIGNALS}
    for block in iter_blocks(text):
        for compute in families:
            for name, values in compute(block).items():
                columns[name].append(values)
    return {name: np.concatenate(arrays) for name, arrays in columns.items()}
