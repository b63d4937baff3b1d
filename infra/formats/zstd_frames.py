"""Zstandard and LZ4 frames: frames to be skipped (RFC 8878, 3.1.2) and dictionaries of WARC archives.

The first frame of a WARC archive may hold the dictionary of all others
(https://iipc.github.io/warc-specifications/specifications/warc-zstd/).
"""

import io
from typing import BinaryIO

import zstandard

ZSTD, LZ4 = b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"
DICTIONARY = b"\x5d\x2a\x4d\x18"
HEADER_BYTES = 8  # of a frame to be skipped: its magic number and the bytes that follow
_MAX_DICTIONARY_BYTES = 1 << 27


def skippable_bytes(header: bytes) -> int | None:
    """The whole length of the frame to be skipped that begins with `header`, else ``None``."""
    if len(header) < HEADER_BYTES or header[0] & 0xF0 != 0x50 or header[1:4] != b"\x2a\x4d\x18":
        return None
    return HEADER_BYTES + int.from_bytes(header[4:HEADER_BYTES], "little")


def skip_frames(stream: BinaryIO, at: int) -> int:
    """The first byte at or after an offset that is not in a frame to be skipped.

    A frame that does not end in the file is not skipped.
    """
    size = stream.seek(0, io.SEEK_END)
    while True:
        stream.seek(at)
        length = skippable_bytes(stream.read(HEADER_BYTES))
        if length is None or at + length > size:
            return at
        at += length


def read_dictionary_frame(stream: BinaryIO) -> bytes:
    """The frame at the beginning of an archive that holds its dictionary; empty if it has none."""
    stream.seek(0)
    header = stream.read(HEADER_BYTES)
    length = skippable_bytes(header) if header.startswith(DICTIONARY) else None
    if length is None or length > _MAX_DICTIONARY_BYTES:
        return b""
    return header + stream.read(length - HEADER_BYTES)


def load_dictionary(frame: bytes) -> zstandard.ZstdCompressionDict | None:
    """The dictionary in a frame, which may be compressed itself; ``None`` if it is damaged."""
    data = frame[HEADER_BYTES:]
    if not data:
        return None
    try:
        if data.startswith(ZSTD):
            reader = zstandard.ZstdDecompressor().stream_reader(data)
            data = reader.read(_MAX_DICTIONARY_BYTES)
        return zstandard.ZstdCompressionDict(data)
    except zstandard.ZstdError:
        return None
