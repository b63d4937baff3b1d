"""A model as two files: ``config.json``, and ``model.safetensors`` with the arrays of the trie."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from lm.models.ngram.model import NgramModel

CONFIG_FILE, MODEL_FILE = "config.json", "model.safetensors"
ITEM_BYTES = {"I32": 4, "I64": 8, "F64": 8}


class ArrayWriter:
    """Write a safetensors file array by array, each in pieces: none has to fit in memory.

    The format: uint64 length of the header, the header as JSON, padded to 8 bytes, the arrays.
    """

    def __init__(self, path: Path, arrays: Mapping[str, tuple[str, int]]) -> None:
        """Open a file for one-dimensional arrays, by name, each (type, length), in this order."""
        header: dict[str, Any] = {"__metadata__": {"format": "np"}}
        self._size = 0
        for name, (dtype, length) in arrays.items():
            end = self._size + length * ITEM_BYTES[dtype]
            header[name] = {"dtype": dtype, "shape": [length], "data_offsets": [self._size, end]}
            self._size = end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self._file = path.open("wb")
        self._file.write(len(text).to_bytes(8, "little") + text)
        self._written = 0

    def write(self, piece: "np.ndarray[Any, Any]") -> None:
        """Write the next values."""
        data = piece.tobytes()
        self._written += len(data)
        self._file.write(data)

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file; raises ``ValueError`` unless all values were written."""
        self._file.close()
        if kind is None and self._written != self._size:
            raise ValueError(f"{self._written} bytes of arrays, not {self._size}")


def load_model(folder: Path) -> NgramModel:
    """Load a model; its arrays are memory-mapped, so that processes share them."""
    # Copy-on-write, though nothing is written: kernels would be compiled again for read-only arrays.
    config = json.loads((folder / CONFIG_FILE).read_text())
    path = folder / MODEL_FILE
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    dtypes = {"I32": "<i4", "I64": "<i8", "F64": "<f8"}
    arrays = {
        name: np.memmap(
            path, dtypes[entry["dtype"]], "c", 8 + size + entry["data_offsets"][0], entry["shape"]
        )
        if entry["shape"] != [0]
        else np.zeros(0, dtypes[entry["dtype"]])
        for name, entry in header.items()
        if name != "__metadata__"
    }
    return NgramModel.from_arrays(config, {k: np.asarray(v) for k, v in arrays.items()})
