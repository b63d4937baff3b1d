"""WARC records: read from any archive, written so that their length depends on content alone.

A record is one gzip member, so that any of them can be read alone. Its headers, which hold the
time of the fetch, go into a stored (uncompressed) block and only the payload is compressed: two
fetches of the same page give members of equal length.
"""

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

from infra.formats import http_body, warc_recovery, zstd_frames
from infra.formats.warc_line_ends import with_crlf_headers

COMPRESSION_LEVEL = 6
_STORED = 0xFFFF  # bytes of the longest stored block (RFC 1951, 3.2.4)
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # no name, no time, unknown system
_GZIP = 16 + zlib.MAX_WBITS
PAGE_KINDS = frozenset({"response", "resource", "conversion", "revisit", "metadata"})
_REQUIRED_HEADERS = ("warc-type", "warc-record-id", "content-length")  # required in every record
_HTTP_HEAD_END = re.compile(rb"\r?\n\r?\n")
_HTTP_HEAD_CHUNK, _MAX_HTTP_HEAD = 1 << 14, 1 << 20  # bytes read at a time, and at most
TRUNCATED = "unspecified"  # of WARC-Truncated (WARC 1.1, 5.13): the body's own encoding breaks off
_HOP_BY_HOP = frozenset({"transfer-encoding", "content-encoding", "content-length"})

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Capture:
    """One HTTP response.

    Attributes:
        url: the requested URL.
        date: the time of the request in the format of WARC-Date (``2026-01-31T12:00:00Z``).
        status: HTTP status; 200 for records without an HTTP part (resource, conversion).
        reason: the reason phrase after the status.
        headers: HTTP headers in their original order.
        payload: the body with transfer and content encodings removed.
        kind: ``response``, ``resource``, ``conversion``, ``revisit`` or ``metadata``.
        decode_error: why the payload could not be decoded; it is then unchanged.
        truncated: the WARC-Truncated header, why the payload ends early: ``length``, ``time``,
            ``disconnect`` or ``unspecified``, as it also is if its encoding breaks off.
    """

    url: str
    date: str
    status: int
    reason: str
    headers: Headers
    payload: bytes
    kind: str = "response"
    decode_error: str | None = None
    truncated: str | None = None

    def get_header(self, name: str) -> str | None:
        """The first header of this name, whatever its case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def get_all_headers(self, name: str) -> list[str]:
        """Every header of this name, whatever its case."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


def current_warc_date() -> str:
    """The current time in the format of WARC-Date, in whole seconds: always 20 characters."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def gzip_member(head: bytes, body: bytes) -> bytes:
    """A gzip member of ``head + body`` whose length does not depend on the bytes of `head`."""
    out = [_GZIP_HEAD]
    for at in range(0, len(head), _STORED):
        block = head[at : at + _STORED]
        size = len(block)
        out.append(b"\x00" + size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little"))
        out.append(block)
    compressor = zlib.compressobj(COMPRESSION_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    out.append(compressor.compress(body))
    out.append(compressor.flush())
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


def _header_block(version: str, headers: Headers, encoding: str = "utf-8") -> bytes:
    lines = [version, *(f"{key}: {value}" for key, value in headers), "", ""]
    return "\r\n".join(lines).encode(encoding, "replace")


def response_record(capture: Capture) -> bytes:
    """A ``response`` record as a gzip member.

    The payload is stored decoded, so Content-Encoding and Transfer-Encoding are renamed to
    ``X-Crawl-...``, as Common Crawl does. The record's id is derived from URL and payload.
    """
    http: list[tuple[str, str]] = []
    for key, value in capture.headers:
        name = f"X-Crawl-{key}" if key.lower() in _HOP_BY_HOP else key
        http.append((name, " ".join(value.splitlines()).strip()))
    http.append(("Content-Length", str(len(capture.payload))))
    block = _header_block(f"HTTP/1.1 {capture.status} {capture.reason}".rstrip(), http, "latin-1")
    payload = _sha1(capture.payload)
    head = _header_block(
        "WARC/1.0",
        [
            ("WARC-Type", "response"),
            ("WARC-Record-ID", _record_id(capture.url, payload)),
            ("WARC-Date", capture.date),
            ("WARC-Target-URI", capture.url),
            ("WARC-Payload-Digest", payload),
            ("WARC-Block-Digest", _sha1(block, capture.payload)),
            *([("WARC-Truncated", capture.truncated)] if capture.truncated else []),
            ("Content-Type", "application/http; msgtype=response"),
            ("Content-Length", str(len(block) + len(capture.payload))),
        ],
    )
    return gzip_member(head + block, capture.payload + b"\r\n\r\n")


def metadata_record(url: str, date: str, data: bytes) -> bytes:
    """A ``metadata`` record of JSON about a URL, as a gzip member."""
    return _make_record("metadata", "application/json", data, date, [("WARC-Target-URI", url)])


def warcinfo_record(date: str, fields: Headers) -> bytes:
    """The ``warcinfo`` record that opens an archive, as a gzip member."""
    data = "".join(f"{key}: {value}\r\n" for key, value in fields).encode()
    return _make_record("warcinfo", "application/warc-fields", data, date, [])


def _make_record(kind: str, mime: str, data: bytes, date: str, extra_headers: Headers) -> bytes:
    head = _header_block(
        "WARC/1.0",
        [
            ("WARC-Type", kind),
            (
                "WARC-Record-ID",
                _record_id(kind, date, _sha1(data), *(value for _, value in extra_headers)),
            ),
            ("WARC-Date", date),
            *extra_headers,
            ("Content-Type", mime),
            ("Content-Length", str(len(data))),
        ],
    )
    return gzip_member(head, data + b"\r\n\r\n")


class WarcReadError(Exception):
    """An archive that cannot be read further.

    Attributes:
        offset: where the damage begins: after the last complete record, or at the damaged one.
        records_read: the number of records read before it.
        error: the reader's message.
    """

    def __init__(self, offset: int, records_read: int, error: str) -> None:
        super().__init__(f"{error}, in the record at byte {offset}")
        self.offset = offset
        self.records_read = records_read
        self.error = error


@dataclass(frozen=True)
class DamagedRange:
    """A range of an archive that cannot be read.

    Attributes:
        offset: its first byte.
        end: where the next record begins; ``None`` if there is none.
        records_read: the number of records of the archive read before it.
        error: the reader's message.
    """

    offset: int
    end: int | None
    records_read: int
    error: str


def iter_captures_skipping_damage(
    stream: BinaryIO, *, max_payload: int | None = None
) -> Iterator[tuple[int, Capture | DamagedRange]]:
    """As ``iter_captures``, but continue with the next record after damage.

    An archive whose headers have no carriage returns is read from a copy; offsets are those in it.

    Yields:
        ``(offset, capture)``, and ``(offset, DamagedRange)`` for every range that was skipped.
    """
    with with_crlf_headers(stream) as archive:
        at: int | None = 0
        read = 0
        while at is not None:
            try:
                yield from iter_captures(archive, max_payload=max_payload, start=at)
            except WarcReadError as error:
                read += error.records_read
                at = warc_recovery.find_next_record(archive, error.offset + 1)
                yield error.offset, DamagedRange(error.offset, at, read, error.error)
            else:
                return


def iter_captures(
    stream: BinaryIO, *, max_payload: int | None = None, start: int = 0
) -> Iterator[tuple[int, Capture]]:
    """Every record of an archive that contains or represents a page, in the archive's order.

    Args:
        stream: a WARC file, plain, gzip or zstd; seekable.
        max_payload: longer payloads are cut to one byte more than this, so that they are recognizable.
        start: where the first record begins.

    Yields:
        ``(offset, capture)``; the offset is that of the record's (compressed) first byte.

    Raises:
        WarcReadError: where the archive is truncated or damaged; every record before was yielded.
    """
    from fastwarc import ArchiveIterator

    read = 0
    dictionary_frame = zstd_frames.read_dictionary_frame(stream)
    while True:
        last: tuple[int, str, Capture | None] | None = None
        error: Exception | None = None
        uncompressed = warc_recovery.detect_compression(stream, start) is None
        if not dictionary_frame:
            start = zstd_frames.skip_frames(stream, start)
        stream.seek(start)
        view: Any = stream
        if start and dictionary_frame:
            view = _PrefixedStream(dictionary_frame, stream)
        shift = 0 if view is stream else start - len(dictionary_frame)
        try:
            for record in ArchiveIterator(view, strict_mode=False, parse_http=False):
                page = _read_page(record, max_payload, uncompressed)
                if last is not None and last[2] is not None:
                    yield last[0], last[2]
                last = record.stream_pos + shift, record.record_id or "", page
                read += 1
        except (OSError, ValueError, RuntimeError, EOFError) as caught:
            error = caught
        if last is None:
            if warc_recovery.is_compressed_twice(stream, start):
                error = ValueError("compressed twice: no WARC record in what it unpacks to")
            raise WarcReadError(start, read, str(error or "no WARC record in it")) from error
        # The reader fails on the record after the last one it returned, or inside that one's
        # payload; it does not recognize a truncated file.
        is_complete, at = warc_recovery.check_last_record(stream, last[0], last[1])
        if not is_complete:
            raise WarcReadError(
                at, read - 1, str(error or "the file ends inside a record")
            ) from error
        if last[2] is not None:
            yield last[0], last[2]
        start = warc_recovery.skip_empty(stream, at)  # the reader stops at an empty member
        if error is None and start >= stream.seek(0, io.SEEK_END):
            return
        if start <= last[0] or not warc_recovery.is_record_start(stream, start):
            raise WarcReadError(
                start, read, str(error or "the file ends inside a record")
            ) from error


class _PrefixedStream:
    """An archive from a later record on, behind the frame with its dictionary."""

    def __init__(self, prefix: bytes, stream: BinaryIO) -> None:
        self._prefix = prefix
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not self._prefix:
            return self._stream.read(size)
        end = len(self._prefix) if size < 0 else size
        data, self._prefix = self._prefix[:end], self._prefix[end:]
        return data

    def tell(self) -> int:
        return 0  # when it is opened: the reader looks for a dictionary at the beginning only


def read_capture(stream: BinaryIO, offset: int) -> Capture:
    """The record that begins at an offset. Raises ``WarcReadError`` if there is none."""
    from fastwarc import ArchiveIterator

    stream.seek(offset)
    for record in ArchiveIterator(stream, strict_mode=False, parse_http=False):
        return _read_record(record, None)
    raise WarcReadError(offset, 0, "no WARC record here")


def _read_page(record: Any, max_payload: int | None, uncompressed: bool) -> Capture | None:  # noqa: FBT001
    """The capture of a record that represents a page, else ``None``.

    Raises:
        ValueError: if a record without a checksum (`uncompressed`) lost a required header.
    """
    kind = str(record.record_type).lower()
    if kind == "unknown" and "\n" in (record.headers.get("WARC-Type") or ""):
        raise ValueError("a record whose header lines have no carriage returns")
    if uncompressed:
        names = [name.lower() for name, _ in record.headers.to_tuples()]
        if any(names.count(name) != 1 for name in _REQUIRED_HEADERS):
            raise ValueError("a record whose headers are damaged")
        if kind == "unknown" and record.is_http:
            raise ValueError("a record whose type is damaged")
        if kind in PAGE_KINDS and kind != "metadata" and "warc-target-uri" not in names:
            raise ValueError("a record without its URL")
    return _read_record(record, max_payload) if kind in PAGE_KINDS else None


def _read_record(record: Any, max_payload: int | None) -> Capture:
    kind = str(record.record_type).lower()
    limit = None if max_payload is None else max_payload + 1
    if record.is_http:
        head, block = _read_http_head(record.reader)
        status, reason, headers = _parse_http_head(head)
    else:
        status, reason, block = 200, "OK", b""
        headers = [("Content-Type", record.headers.get("Content-Type") or "")]
    if limit is None:
        payload = block + record.reader.read()
    else:
        payload = (block + record.reader.read(max(0, limit - len(block))))[:limit]
    decode_error = None
    truncated = record.headers.get("WARC-Truncated") or None
    if record.is_http and len(payload) != limit:  # a payload that was cut is too long anyway
        # Not by the reader: where a body is both chunked and compressed, fastwarc 2.0 takes the
        # archive for finished; where it is not what it claims to be, for error.
        transfer, content = (
            ", ".join(value for name, value in headers if name.lower() == wanted)
            for wanted in ("transfer-encoding", "content-encoding")
        )
        try:
            payload = http_body.decode_body(payload, transfer, content, max_payload)
        except http_body.BodyTruncatedError as error:
            payload, truncated = error.data, truncated or TRUNCATED
        except http_body.BodyDecodeError as error:
            decode_error = str(error)
    return Capture(
        url=(record.headers.get("WARC-Target-URI") or "").strip("<>"),
        date=record.headers.get("WARC-Date") or "",
        status=status,
        reason=reason,
        headers=headers,
        payload=bytes(payload),
        kind=kind,
        decode_error=decode_error,
        truncated=truncated,
    )


def _read_http_head(reader: Any) -> tuple[bytes, bytes]:
    """The header lines of an HTTP response, and the beginning of its body.

    Lines may end in a line feed alone (RFC 9112, 2.2), as all do in ClueWeb09. A block that does not
    begin with a status line is a body (HTTP/0.9).
    """
    block = b""
    while len(block) < _MAX_HTTP_HEAD and (chunk := reader.read(_HTTP_HEAD_CHUNK)):
        block += chunk
        if not block.lstrip()[:5].upper().startswith(b"HTTP/"):
            return b"", block
        if end := _HTTP_HEAD_END.search(block):
            return block[: end.start()], block[end.end() :]
    return block, b""


def _parse_http_head(head: bytes) -> tuple[int, str, list[tuple[str, str]]]:
    """Status, reason phrase and headers; characters stand for bytes (Latin-1)."""
    status_line, *lines = head.lstrip().decode("latin-1").split("\n")
    _, code, reason = ([*status_line.split(None, 2), "", ""])[:3] if head else ("", "200", "")
    headers: list[tuple[str, str]] = []
    for line in lines:
        name, colon, value = line.partition(":")
        if line[:1] in (" ", "\t") and headers:  # a folded line (RFC 9112, 5.2)
            headers[-1] = headers[-1][0], f"{headers[-1][1]} {line.strip()}"
        elif colon:
            headers.append((name.strip(), value.strip()))
    return int(code) if code.isdecimal() else 0, reason.strip(), headers
