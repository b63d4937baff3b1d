"""Decompression of streams in bounded memory, with truncation and damage reported."""

import itertools
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import zstandard

from infra.formats.zstd_frames import ZSTD

GZIP = b"\x1f\x8b"
MAX_LAYERS = 3  # of compression

# Compressed bytes that are unpacked at once. The worst ratios are 1,032 (deflate) and 32,768 (zstd), so what
# a slice unpacks to stays below 128 MB whatever the file was made to do.
_SLICE_BYTES = {GZIP: 1 << 16, ZSTD: 1 << 12}

# The largest window of a zstd frame, in bytes: ``zstd --long=31``, as some published dumps are packed.
_MAX_ZSTD_WINDOW = 1 << 31


class CorruptStreamError(Exception):
    """A stream that is truncated or damaged.

    Attributes:
        reason: ``truncated_file``, ``corrupt_file``, or ``unreadable_file`` for a missing dictionary.
        rest: the bytes between the last line break and the damage.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.rest = b""


class _Decompressor(Protocol):
    @property
    def unused_data(self) -> bytes: ...
    @property
    def eof(self) -> bool: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def detect_compression(head: bytes) -> bytes | None:
    """The compression that a file's first bytes show: ``GZIP``, ``ZSTD`` or ``None``."""
    return next((magic for magic in (GZIP, ZSTD) if head.startswith(magic)), None)


def decompress(chunks: Iterator[bytes], magic: bytes, layers: int = MAX_LAYERS) -> Iterator[bytes]:
    """Unpack a stream of one or more members (gzip) or frames (zstd), also one that is packed again.

    Args:
        chunks: the stream.
        magic: its compression, as `detect_compression` returns it.
        layers: how many compressions are undone; a file can be made that unpacks to itself.

    Raises:
        CorruptStreamError: after everything before the damage has been yielded.
    """
    unpacked = _decompress_once(chunks, magic)
    first = b""
    for piece in unpacked:
        first += piece
        if len(first) >= len(ZSTD):
            break
    inner = detect_compression(first) if layers > 1 else None
    unpacked = itertools.chain([first], unpacked)
    yield from decompress(unpacked, inner, layers - 1) if inner else unpacked


def _decompress_once(chunks: Iterator[bytes], magic: bytes) -> Iterator[bytes]:
    make: Callable[[], _Decompressor]
    if magic == GZIP:
        make = lambda: zlib.decompressobj(wbits=31)  # noqa: E731 - 31: gzip with its checksum
    else:
        # Frames to be skipped are frames without content to it.
        packer = zstandard.ZstdDecompressor(max_window_size=_MAX_ZSTD_WINDOW)
        make = packer.decompressobj
    member: _Decompressor | None = None
    num_members = 0
    for piece in _iter_slices(chunks, _SLICE_BYTES[magic]):
        data = piece
        while data:
            is_new = member is None
            if member is None:
                data = data.lstrip(b"\0")  # padding between members
                if not data:
                    break
                member = make()
            try:
                out = member.decompress(data)
            except (zlib.error, zstandard.ZstdError) as error:
                raise _describe_damage(error, behind_member=is_new and num_members > 0) from None
            if out:
                yield out
            if not member.eof:
                break
            data, member = member.unused_data, None
            num_members += 1
    if member is not None:
        raise CorruptStreamError("truncated_file", "the file ends inside its compressed data")


def _describe_damage(error: Exception, *, behind_member: bool) -> CorruptStreamError:
    message = str(error)
    if "ictionary" in message:
        message = f"{message}: it was packed with a zstd dictionary, which it does not contain"
        return CorruptStreamError("unreadable_file", message)
    if behind_member:
        message = f"other bytes follow the compressed data ({message})"
    return CorruptStreamError("corrupt_file", message)


def _iter_slices(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), size):
            yield chunk[start : start + size]
