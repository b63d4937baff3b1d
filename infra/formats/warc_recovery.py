"""Recovery from damage in WARC archives: the end of a complete record, and the next record.

An undamaged archive needs only one check of its last record.
"""

import io
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from zstandard import ZstdCompressionDict, ZstdDecompressor, ZstdError

from infra.formats.zstd_frames import (
    LZ4,
    ZSTD,
    load_dictionary,
    read_dictionary_frame,
    skip_frames,
)

GZIP = b"\x1f\x8b\x08"
_BUFFER_SIZE = 1 << 16
_ZSTD_BUFFER_SIZE = 1 << 10  # a byte may expand to thousands
_SCAN_CHUNK = 1 << 20  # bytes scanned at a time
_VERSION = b"WARC/"
# A version and the first header after it: a page about WARC rarely contains both.
_RECORD = re.compile(rb"WARC/[01]\.[0-9]{1,2}\r?\n[A-Za-z][A-Za-z-]*:")
_UNPRINTABLE = re.compile(rb"[^ -~]")
_BLANK = re.compile(rb"\r?\n\r?\n")
_LENGTH = re.compile(rb"(?im)^content-length:\s*(\d+)")


@dataclass(frozen=True)
class Member:
    """A gzip member or zstd frame.

    Attributes:
        head: its first decompressed bytes; fewer if it is damaged there.
        empty: whether it has no content.
        end: the offset of its end; ``None`` if it is damaged or truncated.
    """

    head: bytes
    empty: bool
    end: int | None


def detect_compression(stream: BinaryIO, at: int) -> bytes | None:
    """The magic number of the compression at an offset; ``None`` if there is none."""
    stream.seek(skip_frames(stream, at))
    head = stream.read(4)
    return next((magic for magic in (GZIP, ZSTD) if head.startswith(magic)), None)


def check_last_record(stream: BinaryIO, offset: int, record_id: str) -> tuple[bool, int]:
    """Whether the last record that a reader returned is complete, and where it ends.

    Args:
        stream: the archive.
        offset: where the record begins according to the reader. If a member contains several
            records, this may be the beginning of the next member, or the end of the archive.
        record_id: its WARC-Record-ID.

    Returns:
        ``(True, end)``, or ``(False, offset)`` for a record that is damaged or truncated.
    """
    magic = detect_compression(stream, offset)
    if magic is not None:
        member = read_member(stream, offset, magic)
        if member.end is not None:
            return True, member.end
        # The id of a damaged record may be damaged, too, and no longer be text.
        printable_id = _UNPRINTABLE.sub(b"", record_id.encode("utf-8", "replace"))
        return printable_id not in _UNPRINTABLE.sub(b"", member.head), offset
    stream.seek(offset)
    head = stream.read(_BUFFER_SIZE)
    if head.startswith(LZ4):
        return _check_lz4(stream, offset)
    if not head.startswith(b"WARC/"):
        return _check_all_members(stream, offset)
    return _check_plain_record(stream, offset, head)


def _check_plain_record(stream: BinaryIO, offset: int, head: bytes) -> tuple[bool, int]:
    gap, length = _BLANK.search(head), _LENGTH.search(head)
    size = stream.seek(0, io.SEEK_END)
    if gap is None or length is None or length.start() > gap.start():
        return False, offset
    end = offset + gap.end() + int(length.group(1))
    if end > size:
        return False, offset
    stream.seek(end)
    tail = stream.read(16)
    rest = tail.lstrip(b"\r\n")
    end += len(tail) - len(rest)
    if not rest or rest.startswith(b"WARC/"):
        return True, end
    # Either the next record is damaged, or this one has lost bytes and extends into the next.
    inner = _find_plain(stream, offset + gap.end())
    is_complete = len(rest) < len(tail) and (inner is None or inner >= end)
    return is_complete, end if is_complete else offset


def _check_lz4(stream: BinaryIO, offset: int) -> tuple[bool, int]:
    """Whether everything from an LZ4 frame to the end of the archive can be decompressed."""
    from fastwarc.stream_io import Lz4Reader

    stream.seek(offset)
    reader = Lz4Reader(stream)
    try:
        while reader.read(_SCAN_CHUNK):
            pass
    except OSError:
        return False, offset
    return True, stream.seek(0, io.SEEK_END)


def _check_all_members(stream: BinaryIO, offset: int) -> tuple[bool, int]:
    """For an archive that is compressed as one: whether all of it can be decompressed."""
    magic = detect_compression(stream, 0)
    if magic is None:
        return True, offset
    at: int | None = skip_frames(stream, 0)
    size = stream.seek(0, io.SEEK_END)
    while at is not None and at < size:
        at = read_member(stream, at, magic).end
        at = at and skip_frames(stream, at)
    return at is not None, size if at is not None else offset


def read_member(stream: BinaryIO, at: int, magic: bytes) -> Member:
    """Decompress the member at an offset to its end or to its first damage."""
    decompressor, error_type = _make_decompressor(magic, _load_dictionary(stream, magic))
    stream.seek(skip_frames(stream, at))
    chunk_size = _BUFFER_SIZE if magic == GZIP else _ZSTD_BUFFER_SIZE
    head, empty = b"", True
    try:
        while chunk := stream.read(chunk_size):
            out = decompressor.decompress(chunk)
            empty = empty and not out
            head += out[: _BUFFER_SIZE - len(head)]
            if decompressor.eof:
                return Member(head, empty, stream.tell() - len(decompressor.unused_data))
    except error_type:
        pass
    return Member(head, empty, None)


def is_compressed_twice(stream: BinaryIO, at: int) -> bool:
    """Whether the member at an offset contains another one."""
    magic = detect_compression(stream, at)
    return magic is not None and read_member(stream, at, magic).head.startswith((GZIP, ZSTD))


def _load_dictionary(archive: BinaryIO, magic: bytes) -> ZstdCompressionDict | None:
    return load_dictionary(read_dictionary_frame(archive)) if magic == ZSTD else None


def _make_decompressor(
    magic: bytes, dictionary: ZstdCompressionDict | None
) -> tuple[Any, type[Exception]]:
    if magic == GZIP:
        return zlib.decompressobj(16 + zlib.MAX_WBITS), zlib.error
    packer = ZstdDecompressor(dictionary) if dictionary else ZstdDecompressor()
    return packer.decompressobj(), ZstdError


def skip_empty(stream: BinaryIO, at: int) -> int:
    """The first byte after empty members and frames to be skipped: some tools end a file so."""
    while (magic := detect_compression(stream, at)) is not None:
        member = read_member(stream, at, magic)
        if member.end is None or not member.empty:
            break
        at = member.end
    return skip_frames(stream, at)


def is_record_start(stream: BinaryIO, at: int) -> bool:
    """Whether a record begins at an offset, complete or not."""
    magic = detect_compression(stream, at)
    stream.seek(skip_frames(stream, at))
    if magic is None:
        return _RECORD.match(stream.read(256)) is not None
    head = stream.read(_BUFFER_SIZE)
    dictionary = _load_dictionary(stream, magic)
    return _decompress_head(head, magic, dictionary).startswith(_VERSION)


def find_next_record(stream: BinaryIO, at: int) -> int | None:
    """Where the next record at or after an offset begins; ``None`` if there is none.

    An archive that begins with a compressed member has nothing else. In any other archive, an
    apparent record may be stored content of a member whose beginning is damaged.
    """
    magic = detect_compression(stream, 0)
    if magic is not None:
        return _find_member(stream, at, magic)
    plain = _find_plain(stream, at)
    if plain is not None:
        stream.seek(plain)
        is_complete, end = _check_plain_record(stream, plain, stream.read(_BUFFER_SIZE))
        stream.seek(end)
        if is_complete and stream.read(len(_VERSION)) in (_VERSION, b""):
            return plain
    offsets = (_find_member(stream, at, GZIP), _find_member(stream, at, ZSTD))
    members = [offset for offset in offsets if offset is not None]
    return min(members) if members else plain


def _find_member(stream: BinaryIO, at: int, magic: bytes) -> int | None:
    dictionary = _load_dictionary(stream, magic)

    def check(window: bytes) -> bool:
        return _decompress_head(window, magic, dictionary).startswith(_VERSION)

    return _scan(stream, at, re.compile(re.escape(magic)), _BUFFER_SIZE, check)


def _find_plain(stream: BinaryIO, at: int) -> int | None:
    return _scan(stream, at, _RECORD, 256, lambda _: True)


def _scan(
    stream: BinaryIO,
    at: int,
    pattern: re.Pattern[bytes],
    lookahead: int,
    check: Callable[[bytes], bool],
) -> int | None:
    """The first match of a pattern whose next `lookahead` bytes pass a check."""
    stream.seek(at)
    window = stream.read(_SCAN_CHUNK)
    while window:
        more = stream.read(_SCAN_CHUNK)
        last = len(window) if not more else max(len(window) - lookahead, 0)
        for match in pattern.finditer(window):
            if match.start() >= last:
                break
            if check(window[match.start() : match.start() + lookahead]):
                return at + match.start()
        if not more:
            return None
        window, at = window[last:] + more, at + last
    return None


def _decompress_head(data: bytes, magic: bytes, dictionary: ZstdCompressionDict | None) -> bytes:
    """The first decompressed bytes of `data`, as many as its damage allows."""
    decompressor, error_type = _make_decompressor(magic, dictionary)
    out = b""
    try:
        for at in range(0, len(data), 1 << 8):
            out += decompressor.decompress(data[at : at + (1 << 8)])
            if len(out) >= len(_VERSION) or decompressor.eof:
                break
    except error_type:
        pass
    return out
