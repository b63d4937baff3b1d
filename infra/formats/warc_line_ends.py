"""Archives whose record headers end in line feeds alone, as those of ClueWeb09 do.

The standard demands carriage returns, and fastwarc takes such an archive for one endless header.
"""

import gzip
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO, cast

from infra.formats.warc_recovery import GZIP, detect_compression

_VERSION_LINE = re.compile(rb"WARC/\d\.\d+\n")
_LENGTH = re.compile(rb"(?im)^content-length:[ \t]*(\d+)")
_BUFFER_SIZE = 1 << 20


@contextmanager
def with_crlf_headers(stream: BinaryIO) -> Iterator[BinaryIO]:
    """The archive itself, or a plain copy with carriage returns, in a temporary file, if it has none."""
    is_gzip = detect_compression(stream, 0) == GZIP
    stream.seek(0)
    source = cast("IO[bytes]", gzip.GzipFile(fileobj=stream)) if is_gzip else stream
    try:
        line = source.readline(16)
    except (OSError, EOFError, zlib.error):
        line = b""
    if not _VERSION_LINE.fullmatch(line):
        stream.seek(0)
        yield stream
        return
    with tempfile.TemporaryFile() as copy:
        try:
            while _VERSION_LINE.fullmatch(line):
                line = _copy_record(line, source, copy)
            copy.write(line)  # damage: the reader of the copy reports it
            shutil.copyfileobj(source, copy, _BUFFER_SIZE)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            copy.write(b"WARC/1.0\r\n")  # a record that is not complete
        copy.seek(0)
        yield cast("BinaryIO", copy)


def _copy_record(version: bytes, source: IO[bytes], copy: IO[bytes]) -> bytes:
    """Copy one record; return the first line of the next."""
    head = version
    while (line := source.readline()).strip():
        head += line
    length = _LENGTH.search(head)
    copy.write(head.replace(b"\n", b"\r\n") + b"\r\n")
    remaining = int(length[1]) if length else 0
    while remaining and (chunk := source.read(min(remaining, _BUFFER_SIZE))):
        copy.write(chunk)
        remaining -= len(chunk)
    if remaining:
        return b""
    copy.write(b"\r\n\r\n")
    while (line := source.readline()) in (b"\n", b"\r\n"):
        pass
    return line
