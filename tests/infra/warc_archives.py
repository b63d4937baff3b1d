"""Archives that tests of WARC read, and ways to read them."""

import gzip
import io
import random

import zstandard

from infra.formats import warc

DATE = "2026-01-01T00:00:00Z"
LATER = "2031-12-31T23:59:59Z"


def capture(name: str, payload: bytes, date: str = DATE, status: int = 200) -> warc.Capture:
    headers = [("Content-Type", "text/html"), ("Set-Cookie", "a"), ("Set-Cookie", "b\u00e9")]
    return warc.Capture(f"http://h/{name}", date, status, "OK", headers, payload)


def archive(date: str = DATE) -> tuple[bytes, list[warc.Capture]]:
    captures = [capture("a", b"A" * 200_000, date), capture("b", b"", date, 404),
                capture("c", bytes(range(256)) * 40, date)]  # fmt: skip
    head = warc.warcinfo_record(date, [("software", "test")])
    return head + b"".join(warc.response_record(item) for item in captures), captures


def read(data: bytes) -> tuple[list[warc.Capture], warc.WarcReadError | None]:
    captures: list[warc.Capture] = []
    try:
        captures.extend(item for _, item in warc.iter_captures(io.BytesIO(data)))
    except warc.WarcReadError as error:
        return captures, error
    return captures, None


def packed(form: str, data: bytes) -> bytes:
    """An archive's record, from its gzip member, in another form."""
    if form == "plain":
        return gzip.decompress(data)
    if form == "zstd":  # the command line tool writes checksums, too
        return zstandard.ZstdCompressor(write_checksum=True).compress(gzip.decompress(data))
    return data


def pieces(form: str, count: int = 7) -> tuple[list[bytes], list[warc.Capture]]:
    """Records, each followed by nothing but the next, and their captures."""
    rng = random.Random(5)
    sizes = [0, 40_000, 10, 900, 150_000, 3000, 20]
    written = [capture(str(n), rng.randbytes(sizes[n % 7])) for n in range(count)]
    records = [packed(form, warc.response_record(item)) for item in written]
    damaged_record, error = read(b"".join(records))
    assert error is None
    return records, damaged_record


def read_skipping_damage(data: bytes) -> tuple[list[warc.Capture], list[warc.DamagedRange]]:
    captures = list(warc.iter_captures_skipping_damage(io.BytesIO(data)))
    assert [offset for offset, _ in captures] == sorted(offset for offset, _ in captures)
    return (
        [item for _, item in captures if isinstance(item, warc.Capture)],
        [item for _, item in captures if isinstance(item, warc.DamagedRange)],
    )
