"""Draw a matrix as a picture."""

import base64
import struct
import zlib
from collections.abc import Sequence


def heatmap(matrix: Sequence[Sequence[float]]) -> str:
    """Return a matrix of values from 0 to 1 as a ``data:`` URI of a picture; dark is large."""
    largest = max(max(row) for row in matrix) or 1.0
    rows = [bytes([0, *(255 - round(255 * value / largest) for value in row)]) for row in matrix]
    header = struct.pack(">IIBBBBB", len(matrix[0]), len(matrix), 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        _png_chunk(kind, data)
        for kind, data in (
            (b"IHDR", header),
            (b"IDAT", zlib.compress(b"".join(rows), 9)),
            (b"IEND", b""),
        )
    )
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + check
