"""WARC records: written, read back, and read from archives that end too early."""

import gzip
import io
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.formats import warc
from tests.infra.warc_archives import (
    DATE,
    LATER,
    archive,
    pieces,
    read,
    read_skipping_damage,
)


def test_records_are_read_back() -> None:
    data, wanted = archive()
    captures, error = read(data)
    assert error is None
    assert [(item.url, item.status, item.payload) for item in captures] == [
        (item.url, item.status, item.payload) for item in wanted
    ]
    assert captures[0].get_all_headers("set-cookie") == ["a", "b\u00e9"]
    assert captures[0].get_header("content-length") == "200000"
    assert captures[0].date == DATE


def test_a_record_can_be_read_alone_at_its_offset() -> None:
    data, _ = archive()
    for offset, item in warc.iter_captures(io.BytesIO(data)):
        assert warc.read_capture(io.BytesIO(data), offset) == item
    with pytest.raises(warc.WarcReadError):
        warc.read_capture(io.BytesIO(data), len(data))


def test_the_date_changes_no_offset() -> None:
    one, two = archive()[0], archive(LATER)[0]
    assert len(one) == len(two)
    assert one != two


def test_content_encodings_are_recorded_under_another_name() -> None:
    item = warc.Capture("http://h/", DATE, 200, "", [("Content-Encoding", "gzip")], b"plain")
    (captures,), _ = read(warc.warcinfo_record(DATE, []) + warc.response_record(item))
    assert captures.payload == b"plain"
    assert captures.get_header("X-Crawl-Content-Encoding") == "gzip"


@given(st.binary(max_size=200_000), st.binary(max_size=2000))
def test_a_member_is_gzip(head: bytes, body: bytes) -> None:
    assert gzip.decompress(warc.gzip_member(head, body)) == head + body


@pytest.mark.parametrize("form", ["members", "plain", "one member"])
@given(fraction=st.floats(0, 1, exclude_max=True))
def test_any_truncation_is_detected_and_loses_the_last_record_only(
    form: str, fraction: float
) -> None:
    data, wanted = archive()
    if form != "members":
        data = gzip.decompress(data)
    if form == "one member":
        data = gzip.compress(data)
    cut = int(len(data) * fraction)
    captures, error = read(data[:cut])
    assert [(item.url, item.payload) for item in captures] == [
        (item.url, item.payload) for item in wanted[: len(captures)]
    ]
    if form == "plain":  # a cut between two records leaves a whole, shorter archive
        assert error is not None or captures != wanted
    else:
        ends = [offset for offset, _ in warc.iter_captures(io.BytesIO(data))]
        assert error is not None or cut in ends


@pytest.mark.parametrize(
    "data",
    [b"", b"garbage" * 500, b"\0" * 500, gzip.compress(b"no archive" * 99, mtime=0)],
)
def test_what_is_no_archive(data: bytes) -> None:
    captures, error = read(data)
    assert captures == []
    assert error is not None
    assert error.records_read == 0


def test_damage_in_the_middle_keeps_the_records_before() -> None:
    data, wanted = archive()
    offsets = [offset for offset, _ in warc.iter_captures(io.BytesIO(data))]
    broken = bytearray(data)
    middle = offsets[1] + 600
    broken[middle : middle + 40] = b"\xaa" * 40
    captures, error = read(bytes(broken))
    assert error is not None
    assert [item.url for item in captures] == [item.url for item in wanted[: len(captures)]]
    assert 1 <= len(captures) < 3


@pytest.mark.parametrize("form", ["members", "zstd", "plain"])
@settings(max_examples=100)
@given(data=st.data())
def test_one_damaged_record_loses_itself_only(form: str, data: st.DataObject) -> None:
    records, wanted = pieces(form)
    index = data.draw(st.integers(0, len(records) - 1), "record")
    damaged_record = bytearray(records[index])
    near = data.draw(st.sampled_from([40, 400, len(damaged_record)]), "within")
    at = data.draw(st.integers(0, min(near, len(damaged_record)) - 1), "byte")
    length = data.draw(st.integers(1, len(damaged_record) - at), "length")
    match data.draw(st.sampled_from(["flip", "cut", "garbage", "insert"]), "damage"):
        case "flip":
            damaged_record[at] ^= 1 << data.draw(st.integers(0, 7), "bit")
        case "cut":
            del damaged_record[at : at + length]
        case "garbage":
            damaged_record[at : at + length] = random.Random(at).randbytes(length)
        case "insert":
            damaged_record[at:at] = b"\0\r\n\xff" * 5
    broken = b"".join([*records[:index], bytes(damaged_record), *records[index + 1 :]])
    captures, damage = read_skipping_damage(broken)
    others = [item for n, item in enumerate(wanted) if n != index]
    if form != "plain":  # checksums leave no damaged record unnoticed
        assert captures in (others, wanted)
    else:
        assert [item for item in captures if item in others] == others
        assert len(captures) <= len(wanted)
    start = sum(map(len, records[:index]))
    for item in damage:
        assert start <= item.offset <= start + len(damaged_record)
        rest = [b"".join(records[index + n :]) for n in (0, 1)]  # garbage may precede it
        assert item.end is None or broken[item.end :] in rest
    assert len(damage) <= 1


def test_every_damaged_range_is_one() -> None:
    records, wanted = pieces("members", 12)
    for index in (0, 3, 4, 8, 11):
        records[index] = records[index][:15] + records[index][25:]
    captures, damage = read_skipping_damage(b"".join(records))
    assert captures == [wanted[index] for index in (1, 2, 5, 6, 7, 9, 10)]
    starts = [sum(map(len, records[:index])) for index in range(13)]
    assert [(item.offset, item.end) for item in damage] == [
        (0, starts[1]), (starts[3], starts[5]), (starts[8], starts[9]), (starts[11], None),
    ]  # fmt: skip
    assert [item.records_read for item in damage] == [0, 2, 5, 7]


def test_an_empty_member_hides_nothing() -> None:
    data, _ = archive()
    wanted, _ = read(data)
    empty = gzip.compress(b"")
    offsets = [offset for offset, _ in warc.iter_captures(io.BytesIO(data))]
    data = data[: offsets[1]] + empty + empty + data[offsets[1] :] + empty
    assert read_skipping_damage(data) == (wanted, [])


def test_members_of_several_records() -> None:
    plain, wanted = pieces("plain")
    members = [gzip.compress(b"".join(plain[at : at + 2])) for at in range(0, 7, 2)]
    assert read_skipping_damage(b"".join(members)) == (wanted, [])
    members[1] = members[1][:30] + members[1][60:]
    captures, damage = read_skipping_damage(b"".join(members))
    assert captures == [*wanted[:2], *wanted[4:]]
    assert [item.offset for item in damage] == [len(members[0])]


def test_a_plain_record_without_type_or_address_is_damaged() -> None:
    records, wanted = pieces("plain", 3)
    for lost in (b"WARC-Type", b"WARC-Target-URI"):
        broken = [records[0], records[1].replace(lost, lost[::-1]), records[2]]
        captures, damage = read_skipping_damage(b"".join(broken))
        assert captures == [wanted[0], wanted[2]]
        assert len(damage) == 1


def test_headers_that_are_merged_belong_to_no_record() -> None:
    records, wanted = pieces("plain", 3)
    broken = [records[0], records[1][:100], b"\r\n", records[2]]
    captures, damage = read_skipping_damage(b"".join(broken))
    assert captures == [wanted[0], wanted[2]]
    assert len(damage) == 1


def test_long_payloads_are_cut_to_one_byte_over_the_limit() -> None:
    data, _ = archive()
    first = next(item for _, item in warc.iter_captures(io.BytesIO(data), max_payload=1000))
    assert len(first.payload) == 1001


@pytest.mark.parametrize(
    ("block", "status", "headers", "payload"),
    [
        (b"HTTP/1.1 200 OK\nA: 1\nB: 2\n\n<p>x", 200, [("A", "1"), ("B", "2")], b"<p>x"),
        (b"HTTP/1.1 200 OK\nA: 1\r\nB: 2\n\r\n<p>x", 200, [("A", "1"), ("B", "2")], b"<p>x"),
        (b"HTTP/1.1 200 OK\r\nA: 1\r\n\r\n\n\nx", 200, [("A", "1")], b"\n\nx"),
        (b"HTTP/1.0 404\r\nA: 1\r\n and 2\r\n\r\n", 404, [("A", "1 and 2")], b""),
        (b"HTTP/1.1 200 OK\r\nbroken\r\nA : 1:2\r\n\r\nx", 200, [("A", "1:2")], b"x"),
        (b"HTTP/1.1 200 OK\n\n<p>x", 200, [], b"<p>x"),
        (b"\r\nHTTP/1.1 200 OK\r\nA: \xfc\r\n\r\nx", 200, [("A", "\xfc")], b"x"),
        (b"HTTP/1.1 OK\r\nA: 1\r\n\r\nx", 0, [("A", "1")], b"x"),
        (b"HTTP/1.1 200 OK\r\nA: 1\r\n", 200, [("A", "1")], b""),
        (b"<html>HTTP 0.9\n\nhas no headers", 200, [], b"<html>HTTP 0.9\n\nhas no headers"),
        (b"", 200, [], b""),
    ],
)
def test_http_heads_of_any_kind_are_read(
    block: bytes, status: int, headers: list[tuple[str, str]], payload: bytes
) -> None:
    head = (
        b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:1>\r\n"
        b"WARC-Target-URI: http://h/\r\nWARC-Date: 2024-05-01T10:00:00Z\r\n"
        b"Content-Type: application/http; msgtype=response\r\n"
        b"Content-Length: %d\r\n\r\n" % len(block)
    )
    ((_, capture),) = warc.iter_captures(io.BytesIO(gzip.compress(head + block + b"\r\n\r\n")))
    assert (capture.status, list(capture.headers), capture.payload) == (status, headers, payload)


def clueweb_record(number: int, line_end: bytes = b"\n") -> bytes:
    """A record as in ClueWeb09: version 0.18, header lines that end in a line feed."""
    block = b"HTTP/1.1 200 OK\nContent-Type: text/html\n\n<p>Page %d\r\n\nWARC/0.18\nx" % number
    lines = [
        b"WARC/0.18", b"WARC-Type: response", b"WARC-Target-URI: http://h/%d" % number,
        b"WARC-Date: 2009-03-65T08:43:19-0800", b"WARC-Record-ID: <urn:uuid:%d>" % number,
        b"WARC-TREC-ID: clueweb09-en0000-00-0000%d" % number,
        b"Content-Type: application/http;msgtype=response", b"Content-Length: %d" % len(block),
    ]  # fmt: skip
    return line_end.join(lines) + line_end * 2 + block + line_end * 2


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("form", ["plain", "members", "one member"])
def test_headers_without_carriage_returns_are_read(line_end: bytes, form: str) -> None:
    records = [clueweb_record(number, line_end) for number in range(4)]
    if form == "members":
        records = list(map(gzip.compress, records))
    data = b"".join(records)
    captures, damage = read_skipping_damage(gzip.compress(data) if form == "one member" else data)
    assert damage == []
    assert [capture.url for capture in captures] == [f"http://h/{number}" for number in range(4)]
    assert captures[2].payload == b"<p>Page 2\r\n\nWARC/0.18\nx"
    assert captures[2].get_header("Content-Type") == "text/html"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("cut", [5, 40, 200, 400])
def test_a_truncated_archive_without_carriage_returns_says_so(packed: bool, cut: int) -> None:
    pack = gzip.compress if packed else bytes
    data = b"".join(pack(clueweb_record(number)) for number in range(4))
    captures, damage = read_skipping_damage(data[:-cut])
    is_whole = packed and cut == 5  # only the checksum of the last record is missing
    assert 2 <= len(captures) < (5 if is_whole else 4)
    assert len(damage) == 1
