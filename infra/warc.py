"""WARC records: written so that their length depends on content alone, read from any archive.

A record is one gzip member, so that any of them can be read alone. Its headers, which hold the
time of the fetch, go into a stored (uncompressed) block and only the payload is compressed: two
fetches of the same page give members of equal length.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import uuid
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO

from infra import body

LEVEL = 6
_STORED = 0xFFFF  # bytes of the longest stored block (RFC 1951, 3.2.4)
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # no name, no time, unknown system
_GZIP = 16 + zlib.MAX_WBITS
PAGE_KINDS = frozenset({"response", "resource", "conversion", "revisit", "metadata"})
_HOP_BY_HOP = frozenset({"transfer-encoding", "content-encoding", "content-length"})

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Capture:
    """One HTTP response.

    Attributes:
        url: the address that was asked for.
        date: when, as WARC-Date has it (``2026-01-31T12:00:00Z``).
        status: HTTP status; 200 for records that have no HTTP part (resource, conversion).
        reason: the words after the status.
        headers: HTTP headers in their order.
        payload: the body with transfer and content encodings removed.
        kind: ``response``, ``resource``, ``conversion``, ``revisit`` or ``metadata``.
        fault: why the payload could not be decoded; it is then as archived.
    """

    url: str
    date: str
    status: int
    reason: str
    headers: Headers
    payload: bytes
    kind: str = "response"
    fault: str | None = None

    def header(self, name: str) -> str | None:
        """The first header of this name, whatever its case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def all(self, name: str) -> list[str]:
        """Every header of this name, whatever its case."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


def now() -> str:
    """The current time as WARC-Date has it, in whole seconds: always 20 characters."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def member(head: bytes, body: bytes) -> bytes:
    """A gzip member of ``head + body`` whose length does not depend on the bytes of `head`."""
    out = [_GZIP_HEAD]
    for at in range(0, len(head), _STORED):
        block = head[at : at + _STORED]
        size = len(block)
        out.append(b"\x00" + size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little"))
        out.append(block)
    squeeze = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    out.append(squeeze.compress(body))
    out.append(squeeze.flush())
    checksum = zlib.crc32(body, zlib.crc32(head))
    out.append(checksum.to_bytes(4, "little"))
    out.append(((len(head) + len(body)) & 0xFFFFFFFF).to_bytes(4, "little"))
    return b"".join(out)


def _sha1(*pieces: bytes) -> str:
    hasher = hashlib.sha1(usedforsecurity=False)
    for piece in pieces:
        hasher.update(piece)
    return "sha1:" + base64.b32encode(hasher.digest()).decode()


def _record_id(*keys: str) -> str:
    return f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, ' '.join(keys))}>"


def _block(version: str, headers: Headers, encoding: str = "utf-8") -> bytes:
    lines = [version, *(f"{key}: {value}" for key, value in headers), "", ""]
    return "\r\n".join(lines).encode(encoding, "replace")


def response(capture: Capture) -> bytes:
    """A ``response`` record as a gzip member.

    The payload is stored decoded, so Content-Encoding and Transfer-Encoding are kept under
    ``X-Crawl-`` names, as Common Crawl does. The record's id is made from address and payload.
    """
    http: list[tuple[str, str]] = []
    for key, value in capture.headers:
        name = f"X-Crawl-{key}" if key.lower() in _HOP_BY_HOP else key
        http.append((name, " ".join(value.splitlines()).strip()))
    http.append(("Content-Length", str(len(capture.payload))))
    block = _block(f"HTTP/1.1 {capture.status} {capture.reason}".rstrip(), http, "latin-1")
    payload = _sha1(capture.payload)
    head = _block(
        "WARC/1.0",
        [
            ("WARC-Type", "response"),
            ("WARC-Record-ID", _record_id(capture.url, payload)),
            ("WARC-Date", capture.date),
            ("WARC-Target-URI", capture.url),
            ("WARC-Payload-Digest", payload),
            ("WARC-Block-Digest", _sha1(block, capture.payload)),
            ("Content-Type", "application/http; msgtype=response"),
            ("Content-Length", str(len(block) + len(capture.payload))),
        ],
    )
    return member(head + block, capture.payload + b"\r\n\r\n")


def note(url: str, date: str, data: bytes) -> bytes:
    """A ``metadata`` record of JSON about an address, as a gzip member."""
    return _plain("metadata", "application/json", data, date, [("WARC-Target-URI", url)])


def info(date: str, fields: Headers) -> bytes:
    """The ``warcinfo`` record that opens an archive, as a gzip member."""
    data = "".join(f"{key}: {value}\r\n" for key, value in fields).encode()
    return _plain("warcinfo", "application/warc-fields", data, date, [])


def _plain(kind: str, mime: str, data: bytes, date: str, more: Headers) -> bytes:
    head = _block(
        "WARC/1.0",
        [
            ("WARC-Type", kind),
            ("WARC-Record-ID", _record_id(kind, date, _sha1(data), *(value for _, value in more))),
            ("WARC-Date", date),
            *more,
            ("Content-Type", mime),
            ("Content-Length", str(len(data))),
        ],
    )
    return member(head, data + b"\r\n\r\n")


class Broken(Exception):
    """An archive that cannot be read on.

    Attributes:
        offset: where the record begins that could not be read.
        records: how many records were read before it.
        error: what the reader said.
    """

    def __init__(self, offset: int, records: int, error: str) -> None:
        super().__init__(f"{error}, in the record at byte {offset}")
        self.offset = offset
        self.records = records
        self.error = error


def captures(stream: BinaryIO, *, max_payload: int | None = None) -> Iterator[tuple[int, Capture]]:
    """Every record of an archive that holds or stands for a page, in the archive's order.

    Args:
        stream: a WARC file, plain, gzip or zstd; seekable.
        max_payload: longer payloads are cut to one byte more than this, so that they can be told.

    Yields:
        ``(offset, capture)``; the offset is that of the record's (compressed) first byte.

    Raises:
        Broken: where the archive is cut short or garbage; every record before was yielded.
    """
    from fastwarc import ArchiveIterator

    last: tuple[int, Capture | None] | None = None
    read = 0
    try:
        for record in ArchiveIterator(stream, strict_mode=False):
            if last is not None and last[1] is not None:
                yield last[0], last[1]
            page = str(record.record_type).lower() in PAGE_KINDS
            last = int(record.stream_pos), _capture(record, max_payload) if page else None
            read += 1
    except (OSError, ValueError, RuntimeError, EOFError) as error:
        # The reader fails on the record after the last one it gave, or inside that one's payload.
        if last is not None and last[1] is not None:
            yield last[0], last[1]
        raise Broken(last[0] if last else 0, read, str(error)) from error
    if last is None:
        raise Broken(0, 0, "no WARC record in it")
    # The reader takes a file that ends too early for one that ends: only its last record can tell.
    whole, rest = _complete(stream, last[0])
    if whole and last[1] is not None:
        yield last[0], last[1]
    if not (whole and rest):
        raise Broken(last[0], read if whole else read - 1, "the file ends inside a record")


def capture_at(stream: BinaryIO, offset: int) -> Capture:
    """The record that begins at an offset. Raises ``Broken`` if none does."""
    from fastwarc import ArchiveIterator

    stream.seek(offset)
    for record in ArchiveIterator(stream, strict_mode=False):
        return _capture(record, None)
    raise Broken(offset, 0, "no WARC record here")


def _complete(stream: BinaryIO, offset: int) -> tuple[bool, bool]:
    """Whether the record at an offset is all there, and whether what follows is."""
    stream.seek(0)
    compressed = stream.read(2) == _GZIP_HEAD[:2]
    stream.seek(offset)
    head = stream.read(1 << 16)
    if compressed:
        if head[:2] != _GZIP_HEAD[:2]:  # one member for the whole file: offsets lead inside it
            stream.seek(0)
            head = stream.read(1 << 16)
        return _complete_members(stream, head)
    if not head.startswith(b"WARC/"):
        return True, True  # zstd: its reader notices by itself
    gap = re.search(rb"\r?\n\r?\n", head)
    length = re.search(rb"(?im)^content-length:\s*(\d+)", head)
    if gap is None or length is None:
        return False, False
    end = offset + gap.end() + int(length.group(1))
    size = stream.seek(0, io.SEEK_END)
    return end <= size, end + 4 >= size


def _complete_members(stream: BinaryIO, head: bytes) -> tuple[bool, bool]:
    inflate, members, pending = zlib.decompressobj(_GZIP), 0, False
    chunk = head
    try:
        while chunk:
            inflate.decompress(chunk)
            chunk, pending = inflate.unused_data, not inflate.eof
            if inflate.eof:
                members += 1
                inflate = zlib.decompressobj(_GZIP)
            chunk = chunk or stream.read(1 << 16)
    except zlib.error:
        return members > 0, False
    return members > 0, not pending


def _capture(record: Any, max_payload: int | None) -> Capture:
    kind = str(record.record_type).lower()
    http = record.http_headers if record.is_http_parsed else None
    limit = -1 if max_payload is None else max_payload + 1
    payload = bytes(record.reader.read(limit) if limit >= 0 else record.reader.read())
    fault = None
    if http is None:
        headers: Headers = [("Content-Type", record.headers.get("Content-Type") or "")]
    else:
        headers = http.to_tuples()
        # Not by the reader: where a body is both chunked and compressed, fastwarc 2.0 takes the
        # archive for finished; where it is not what it claims to be, for broken.
        transfer, content = http.get("Transfer-Encoding"), http.get("Content-Encoding")
        try:
            if len(payload) != limit:  # one that was cut is too long, whatever is in it
                payload = body.decode(payload, transfer, content, max_payload)
        except body.Undecodable as error:
            fault = str(error)
    return Capture(
        url=(record.headers.get("WARC-Target-URI") or "").strip("<>"),
        date=record.headers.get("WARC-Date") or "",
        status=int(http.status_code or 0) if http is not None else 200,
        reason=(http.reason_phrase or "") if http is not None else "OK",
        headers=headers,
        payload=payload,
        kind=kind,
        fault=fault,
    )
