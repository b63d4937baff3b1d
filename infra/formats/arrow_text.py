"""Arrow text columns as NumPy buffers for compiled kernels."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Offsets = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]


def utf8_buffers(array: "pa.Array[Any] | pa.ChunkedArray[Any]") -> tuple[Offsets, Bytes]:
    """The text of a string column as one byte buffer with the offsets of its rows.

    Args:
        array: a ``string`` or ``large_string`` column of n rows; a null counts as empty text.

    Returns:
        ``(offsets, data)``: int64[n + 1] and uint8[...]; row i is ``data[offsets[i]:offsets[i+1]]``.
        The bytes are not copied unless the column is chunked or has nulls.
    """
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks == 1 else array.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # combine_chunks of an empty column
        array = pa.array([], type=array.type)
    if array.null_count:
        array = array.fill_null("")
    if pa.types.is_string(array.type):
        width: type[np.int32 | np.int64] = np.int32
    elif pa.types.is_large_string(array.type):
        width = np.int64
    else:
        raise TypeError(f"expected a text column, not {array.type}")
    _, offsets, data = array.buffers()
    if len(array) == 0 or offsets is None:
        return np.zeros(1, np.int64), np.zeros(0, np.uint8)
    view = np.frombuffer(offsets, dtype=width)[array.offset : array.offset + len(array) + 1]
    text = np.frombuffer(data, dtype=np.uint8) if data is not None else np.zeros(0, np.uint8)
    return view.astype(np.int64), text
