"""An independent reader of Megatron-LM's indexed data sets, written from the published layout."""

import struct
from pathlib import Path

import numpy as np


def read(prefix: Path) -> list[list[int]]:
    """Every sequence of ``<prefix>.bin`` as its index describes it."""
    with prefix.with_suffix(".idx").open("rb") as stream:
        assert stream.read(9) == b"MMIDIDX\x00\x00"
        assert struct.unpack("<Q", stream.read(8)) == (1,)
        kinds = {1: "u1", 2: "i1", 3: "i2", 4: "i4", 5: "i8", 6: "f8", 7: "f4", 8: "u2"}
        dtype = np.dtype("<" + kinds[struct.unpack("<B", stream.read(1))[0]])
        (sequences,) = struct.unpack("<Q", stream.read(8))
        (documents,) = struct.unpack("<Q", stream.read(8))
        lengths = np.frombuffer(stream.read(4 * sequences), "<i4")
        pointers = np.frombuffer(stream.read(8 * sequences), "<i8")
        bounds = np.frombuffer(stream.read(8 * documents), "<i8")
        assert stream.read() == b""
    assert documents == sequences + 1
    assert bounds.tolist() == list(range(sequences + 1))
    data = prefix.with_suffix(".bin").read_bytes()
    assert len(data) == int(lengths.sum()) * dtype.itemsize
    return [
        np.frombuffer(data, dtype, count=length, offset=pointer).tolist()
        for length, pointer in zip(lengths, pointers, strict=True)
    ]
