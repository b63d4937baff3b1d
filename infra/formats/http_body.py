"""Decoding of archived HTTP bodies: chunked, compressed, or different from what their headers state."""

import re
import zlib
from collections.abc import Iterator

from infra.formats.zstd_frames import HEADER_BYTES, ZSTD, skippable_bytes

_CHUNK_HEAD = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r?\n")
_CHUNKS_END = b"\r\n0\r\n\r\n"
_TRAILER = re.compile(rb"(?:[!-9;-~]+:[^\r\n]*\r?\n)*\r?\n")  # follows the last chunk
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")  # does not occur in text
_BUFFER_SIZE = 1 << 16
_ZSTD_BUFFER_SIZE = 1 << 10  # a byte of zstd may expand to thousands
_GZIP, _ZLIB, _RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
_ENCODINGS = frozenset(("gzip", "deflate", "br", "zstd"))
_NO_ENCODING = frozenset(("identity", "none", "chunked", "aws-chunked", "utf-8", "binary", "8bit"))
_MAX_UNNAMED = 3  # layers of encoding that no header names
_MAGIC = {"gzip": b"\x1f\x8b", "zstd": ZSTD}


class BodyDecodeError(Exception):
    """A body that is damaged or in an unknown encoding."""


class BodyTruncatedError(BodyDecodeError):
    """A body that ends early.

    Attributes:
        data: what it contains up to there, decoded.
    """

    def __init__(self, message: str, data: bytes = b"") -> None:
        super().__init__(message)
        self.data = data


def decode_body(
    body: bytes, transfer_encoding: str | None, content_encoding: str | None, max_bytes: int | None
) -> bytes:
    """Remove the transfer and content encodings of a body.

    Many archives contain decoded bodies under headers that still name the encoding, bodies under
    names that are no encoding (``UTF-8``, ``none``), and encoded ones under no name or a wrong one. So
    the bytes decide: a body without any sign of the encoding is returned unchanged, and one that is
    gzip, zstd, in chunks to its end, or deflate or brotli of a text, is decoded whatever its headers
    say.

    Args:
        body: as archived.
        transfer_encoding: the Transfer-Encoding header.
        content_encoding: the Content-Encoding header; several encodings in the order they were applied.
        max_bytes: decoding stops one byte after this many.

    Raises:
        BodyTruncatedError: if the body is in the encoding but ends early, after some of its content.
        BodyDecodeError: if it is in the encoding but damaged, or is neither text nor in an encoding
            that is known.
    """
    cut: BodyTruncatedError | None = None
    names = [
        name.partition(";")[0].strip(" \t\"'").lower().removeprefix("x-")
        for name in f"{content_encoding or ''},{transfer_encoding or ''}".split(",")
    ]
    for name in reversed(names):
        try:
            body = _remove_encoding(body, name, max_bytes)
        except BodyTruncatedError as error:
            cut, body = error, error.data
    for _ in range(_MAX_UNNAMED):
        if max_bytes is not None and len(body) > max_bytes:
            break
        try:
            decoded = _decode_unnamed(body, max_bytes)
        except BodyTruncatedError as error:
            cut, decoded = error, error.data
        if decoded is None:
            break
        body = decoded
    unknown = [name for name in names if name and name not in {*_ENCODINGS, *_NO_ENCODING}]
    if unknown and _CONTROL.search(body[:_BUFFER_SIZE]):
        raise BodyDecodeError(f"unknown content encoding {unknown[0]!r}")
    if cut is not None:
        raise BodyTruncatedError(str(cut), body) if body else BodyDecodeError(str(cut))
    return body


def _remove_encoding(body: bytes, name: str, max_bytes: int | None) -> bytes:
    if name in ("chunked", "aws-chunked"):
        return dechunk(body)
    return _decompress(body, name, max_bytes) if name in _ENCODINGS else body


def _decode_unnamed(body: bytes, max_bytes: int | None) -> bytes | None:
    """Remove one encoding that no header names; ``None`` if there is no sign of any."""
    name = next((name for name, magic in _MAGIC.items() if body.startswith(magic)), None)
    if name is not None:
        return _decompress(body, name, max_bytes)
    if body.endswith(_CHUNKS_END) and _CHUNK_HEAD.match(body):
        try:
            return dechunk(body)
        except BodyTruncatedError:
            return None
    if _CONTROL.search(body[:_BUFFER_SIZE]):
        for name in ("deflate", "br"):  # without a magic number, but random bytes unpack to no text
            try:
                decoded = _decompress(body, name, max_bytes)
            except BodyDecodeError:
                continue
            if decoded and decoded != body and _is_text(decoded):
                return decoded
    return None


def dechunk(body: bytes) -> bytes:
    """The data of a chunked body (RFC 9112, 7.1); a body that does not begin with a chunk unchanged.

    Raises:
        BodyTruncatedError: if the chunks are truncated.
    """
    out: list[bytes] = []
    at = 0
    while head := _CHUNK_HEAD.match(body, at):
        size = int(head.group(1), 16)
        if size == 0:
            return b"".join(out) if out or _is_last_chunk(body, head) else body
        end = head.end() + size
        if end > len(body):
            rest = body[head.end() :]
            if out or rest.startswith((b"<", *_MAGIC.values())):  # else it may be a line of text
                out.append(rest)
            break
        out.append(body[head.end() : end])
        at = end + (2 if body[end : end + 2] == b"\r\n" else 1)
    if not out:
        return body
    raise BodyTruncatedError("chunks are truncated", b"".join(out))


def _is_last_chunk(body: bytes, head: re.Match[bytes]) -> bool:
    """Whether a first chunk of size 0 ends the body, and is not a line of text that reads 0."""
    if head.end() == len(body):
        return head.group().endswith(b"\r\n")
    return _TRAILER.fullmatch(body, head.end()) is not None


def _is_text(body: bytes) -> bool:
    """Whether a body looks like text: no control characters, and either markup or UTF-8."""
    start = body[:_ZSTD_BUFFER_SIZE]
    if _CONTROL.search(start):
        return False
    try:
        start.decode()
    except UnicodeDecodeError as error:
        cut = len(start) < len(body) and error.start > len(start) - 4
        return cut or start.lstrip().startswith(b"<")
    return True


def _decompress(body: bytes, name: str, max_bytes: int | None) -> bytes:
    if name == "deflate" and body.startswith(tuple(_MAGIC.values())):
        return body  # no stream of deflate begins so
    magic = _MAGIC.get(name)
    is_skippable = name == "zstd" and skippable_bytes(body[:HEADER_BYTES]) is not None
    if not body or (magic is not None and not body.startswith(magic) and not is_skippable):
        return body
    out = bytearray()
    try:
        for piece in _iter_decompressed(body, name):
            out += piece
            if max_bytes is not None and len(out) > max_bytes:
                return bytes(out[: max_bytes + 1])
    except BodyDecodeError as error:
        # These encodings have no magic number.
        if (name == "br" and not out) or (name == "deflate" and _is_text(body)):
            return body
        if not isinstance(error, BodyTruncatedError) or (
            magic is None and not _is_text(bytes(out))
        ):
            raise BodyDecodeError(str(error)) from None
        raise BodyTruncatedError(str(error), bytes(out)) from None
    return bytes(out)


def _iter_decompressed(body: bytes, name: str) -> Iterator[bytes]:
    if name in ("gzip", "deflate"):
        yield from _inflate(body, name)
    elif name == "br":
        yield from _brotli(body)
    else:
        yield from _zstd(body)


def _inflate(body: bytes, name: str) -> Iterator[bytes]:
    # Servers send deflate both with and without the zlib header (RFC 9110, 8.4.1.2).
    header = body[0] & 0x0F == 8 and int.from_bytes(body[:2]) % 31 == 0  # RFC 1950, 2.2
    bits = _GZIP if name == "gzip" else _ZLIB if header else _RAW
    rest = body
    while rest:
        member = zlib.decompressobj(bits)
        while not member.eof:
            try:
                out = member.decompress(rest, _BUFFER_SIZE)
            except zlib.error as error:
                raise BodyDecodeError(str(error)) from None
            # After all input has been read, there may still be output or the end of the member.
            if not (rest or out or member.eof):
                raise BodyTruncatedError("compressed data is truncated")
            yield out
            rest = member.unconsumed_tail
        rest = member.unused_data if name == "gzip" else b""
        if not rest.startswith(_MAGIC["gzip"]):
            return  # padding follows the last member


def _zstd(body: bytes) -> Iterator[bytes]:
    import zstandard

    at = 0
    while at < len(body):
        frame = zstandard.ZstdDecompressor().decompressobj()
        while not frame.eof:
            if at >= len(body):
                raise BodyTruncatedError("compressed data is truncated")
            piece = body[at : at + _ZSTD_BUFFER_SIZE]
            try:
                yield frame.decompress(piece)
            except zstandard.ZstdError as error:
                raise BodyDecodeError(str(error)) from None
            at += len(piece)
        at -= len(frame.unused_data)


def _brotli(body: bytes) -> Iterator[bytes]:
    import brotli

    decoder = brotli.Decompressor()
    try:
        for at in range(0, len(body), _BUFFER_SIZE):
            yield decoder.process(body[at : at + _BUFFER_SIZE])
    except brotli.error as error:
        raise BodyDecodeError(str(error)) from None
    if not decoder.is_finished():
        raise BodyTruncatedError("compressed data is truncated")
