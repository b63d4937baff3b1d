"""Bodies: decoded if they are encoded, taken as they are if they are not, refused if damaged."""

import gzip
import random
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from infra.formats.http_body import BodyDecodeError, BodyTruncatedError, dechunk, decode_body

TEXT = b"The mill grinds slowly, and fine. " * 400
DEFLATED = zlib.compress(TEXT)


def chunked(data: bytes, size: int) -> bytes:
    """Data in chunks, with an extension and a trailer."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return (
        b"".join(b"%x;a=b\r\n%s\r\n" % (len(item), item) for item in pieces) + b"0\r\nX: y\r\n\r\n"
    )


@given(st.binary(min_size=1, max_size=500), st.integers(1, 50))
def test_chunks_are_joined(data: bytes, size: int) -> None:
    assert dechunk(chunked(data, size)) == data


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("gzip", gzip.compress(TEXT, mtime=0)),
        ("X-GZip", gzip.compress(TEXT[:50], mtime=0) + gzip.compress(TEXT[50:], mtime=0)),
        ("gzip", gzip.compress(TEXT, mtime=0) + b"\0\0\0"),
        ("deflate", DEFLATED),
        ("deflate", DEFLATED[2:-4]),
        ("br", brotli.compress(TEXT)),
        ("zstd", zstandard.compress(TEXT)),
        ("zstd", zstandard.compress(TEXT[:9]) + zstandard.compress(TEXT[9:])),
        ("zstd", b"\x50\x2a\x4d\x18\1\0\0\0x" + zstandard.compress(TEXT)),
        ("identity", TEXT),
        ("gzip, br", brotli.compress(gzip.compress(TEXT, mtime=0))),
        (None, TEXT),
        # With wrong headers:
        ("gzip", TEXT),
        ("zstd", TEXT),
        ("deflate", TEXT),
        ("gzip, br", gzip.compress(TEXT, mtime=0)),
    ],
)
def test_contents(name: str | None, body: bytes) -> None:
    assert decode_body(body, None, name, None) == TEXT
    assert decode_body(chunked(body, 100), "Chunked", name, None) == TEXT
    assert decode_body(body, "chunked", name, None) == TEXT
    assert len(decode_body(body, None, name, 1000)) in (1001, len(TEXT))


@pytest.mark.parametrize(
    ("name", "body"),
    [("gzip", gzip.compress(TEXT, mtime=0)[:-30]), ("deflate", DEFLATED[:-30]), ("rot13", b"\x01" + TEXT),
     ("br", brotli.compress(TEXT * 3000)[:-1]), ("zstd", b"\x28\xb5\x2f\xfd" + b"\xff" * 50)],
)  # fmt: skip
def test_damage(name: str, body: bytes) -> None:
    with pytest.raises(BodyDecodeError):
        decode_body(body, None, name, None)


@pytest.mark.parametrize("length", [1 << 16, 1 << 17, (1 << 16) - 1, (1 << 16) + 1])
@pytest.mark.parametrize("name", ["deflate", "gzip"])
@pytest.mark.parametrize("byte", [True, False])
def test_a_body_may_end_where_a_piece_does(length: int, name: str, byte: bool) -> None:
    data = b"\0" * length if byte else random.Random(3).randbytes(length)
    body = gzip.compress(data) if name == "gzip" else zlib.compress(data)[2:-4]
    assert decode_body(body, None, name, None) == data
    with pytest.raises(BodyDecodeError):
        decode_body(body[:-1], None, name, None)


@pytest.mark.parametrize(
    "body",
    [
        b"<!doctype html><p>decoded already",
        b"\n <p>caf\xe9 in latin-1",
        "Hello, plain text \u00e9\u4e2d".encode(),
        b"xyz",
        b"x",
        ("\u4e2d" * 2000).encode(),
    ],
)
def test_text_under_the_label_of_deflate(body: bytes) -> None:
    assert decode_body(body, None, "deflate", None) == body


@given(st.binary(min_size=30, max_size=3000), st.integers(1, 20), st.booleans())
def test_truncated_deflate_is_not_text(data: bytes, cut: int, raw: bool) -> None:
    body = zlib.compress(data)[2:-4] if raw else zlib.compress(data)
    try:
        decoded = decode_body(body[:-cut], None, "deflate", None)
    except BodyDecodeError:
        return
    assert decoded in (data, body[:-cut])


@pytest.mark.parametrize("body", [b"0\nis not one", b"0\r\nnor this\r\n", b"0\n", b"0 \n\n\n1"])
def test_a_line_that_reads_0_is_not_a_chunk(body: bytes) -> None:
    assert dechunk(body) == body


@pytest.mark.parametrize("body", [b"0\r\n\r\n", b"0\r\n", b"00;x=y\r\nA: b\r\n\r\n", b"0\n\n"])
def test_no_chunks_give_an_empty_body(body: bytes) -> None:
    assert dechunk(body) == b""


@pytest.mark.parametrize("length", [5000, 500])
def test_truncated_chunks(length: int) -> None:
    body = chunked(b"<p>" + TEXT, 1000)
    with pytest.raises(BodyTruncatedError) as raised:
        dechunk(body[:length])
    assert raised.value.data == (b"<p>" + TEXT)[: len(raised.value.data)]
    assert len(raised.value.data) > 0.9 * length


@pytest.mark.parametrize("transfer", [None, "chunked"])
@pytest.mark.parametrize(
    ("name", "pack"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", lambda text: zlib.compress(text)[2:-4]),
     ("br", brotli.compress), ("zstd", zstandard.compress), (None, gzip.compress)],
)  # fmt: skip
def test_what_came_of_a_truncated_body_is_read(
    transfer: str | None, name: str | None, pack: Callable[[bytes], bytes]
) -> None:
    text = b"".join(b"Line %d of a long page, %d.\n" % (n, n * n * 7919) for n in range(20_000))
    body = pack(text)
    if transfer:
        body = chunked(body, 1000)
    with pytest.raises(BodyTruncatedError) as raised:
        decode_body(body[: len(body) * 9 // 10], transfer, name, None)
    assert text.startswith(raised.value.data)
    assert len(raised.value.data) > 60_000  # brotli's blocks are large


def test_a_body_of_which_nothing_came_is_damaged() -> None:
    with pytest.raises(BodyDecodeError) as raised:
        decode_body(gzip.compress(TEXT)[:12], None, "gzip", None)
    assert not isinstance(raised.value, BodyTruncatedError)


def test_a_decompression_bomb_stops_at_the_limit() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    assert len(decode_body(bomb, None, "gzip", 10_000)) == 10_001


def test_an_empty_body_stays_empty() -> None:
    assert decode_body(b"", "chunked", "gzip", None) == b""


@pytest.mark.parametrize(
    "name", ["UTF-8", "none", "None", "8bit", "text/html", "iso-8859-1", "x-x"]
)
def test_a_name_that_is_no_encoding_leaves_text_as_it_is(name: str) -> None:
    latin = "<p>caf\u00e9".encode("latin-1")
    assert decode_body(latin, None, name, None) == latin
    assert decode_body(gzip.compress(TEXT), None, name, None) == TEXT


@pytest.mark.parametrize(
    ("transfer", "content"),
    [
        (None, None),
        ("gzip, chunked", None),
        ("gzip", "gzip"),
        (None, '"gzip"'),
        (None, "GZIP; q=1"),
    ],
)
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_compressed_bodies_are_recognized_without_a_name(
    transfer: str | None, content: str | None, layers: int
) -> None:
    body = TEXT
    for _ in range(layers):
        body = gzip.compress(body)
    assert decode_body(body, transfer, content, None) == TEXT
    assert decode_body(chunked(body, 100), transfer or "chunked", content, None) in (
        TEXT, chunked(body, 100)
    )  # fmt: skip


def test_chunks_of_amazon() -> None:
    signed = b"5;chunk-signature=ab12\r\nhello\r\n0;chunk-signature=cd34\r\n\r\n"
    assert decode_body(signed, None, "aws-chunked", None) == b"hello"
    assert decode_body(gzip.compress(TEXT), None, "gzip,aws-chunked", None) == TEXT
    assert decode_body(TEXT, None, "aws-chunked", None) == TEXT


@pytest.mark.parametrize("name", [None, "identity", "gzip"])
@pytest.mark.parametrize(
    "body",
    [DEFLATED, DEFLATED[2:-4], brotli.compress(TEXT),
     *(chunked(data, 90).replace(b"X: y\r\n", b"") for data in (TEXT, gzip.compress(TEXT)))],
)  # fmt: skip
def test_bodies_in_an_encoding_that_no_header_names(name: str | None, body: bytes) -> None:
    assert decode_body(body, None, name, None) == TEXT


def test_gzip_under_the_label_of_deflate() -> None:
    assert decode_body(gzip.compress(TEXT), None, "deflate", None) == TEXT


@pytest.mark.parametrize(
    "body",
    ["caf\u00e9".encode("utf-16"), b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9, b"5\r\nis not one\r\n0\r\n\r\n",
     b"x^2 + 1", b"a\x01b", bytes(range(256))],
)  # fmt: skip
def test_what_is_in_no_encoding_stays_as_it_is(body: bytes) -> None:
    assert decode_body(body, None, None, None) == body
