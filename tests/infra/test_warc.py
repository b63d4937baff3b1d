"""WARC records: written, read back, and read from archives that end too early."""

import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import warc

DATE = "2026-01-01T00:00:00Z"
LATER = "2031-12-31T23:59:59Z"


def capture(name: str, payload: bytes, date: str = DATE, status: int = 200) -> warc.Capture:
    headers = [("Content-Type", "text/html"), ("Set-Cookie", "a"), ("Set-Cookie", "b\u00e9")]
    return warc.Capture(f"http://h/{name}", date, status, "OK", headers, payload)


def archive(date: str = DATE) -> tuple[bytes, list[warc.Capture]]:
    captures = [capture("a", b"A" * 200_000, date), capture("b", b"", date, 404),
                capture("c", bytes(range(256)) * 40, date)]  # fmt: skip
    head = warc.info(date, [("software", "test")])
    return head + b"".join(warc.response(item) for item in captures), captures


def read(data: bytes) -> tuple[list[warc.Capture], warc.Broken | None]:
    found: list[warc.Capture] = []
    try:
        found.extend(item for _, item in warc.captures(io.BytesIO(data)))
    except warc.Broken as error:
        return found, error
    return found, None


def test_records_are_read_back() -> None:
    data, wanted = archive()
    found, error = read(data)
    assert error is None
    assert [(item.url, item.status, item.payload) for item in found] == [
        (item.url, item.status, item.payload) for item in wanted
    ]
    assert found[0].all("set-cookie") == ["a", "b\u00e9"]
    assert found[0].header("content-length") == "200000"
    assert found[0].date == DATE


def test_a_record_stands_alone_at_its_offset() -> None:
    data, _ = archive()
    for offset, item in warc.captures(io.BytesIO(data)):
        assert warc.capture_at(io.BytesIO(data), offset) == item
    with pytest.raises(warc.Broken):
        warc.capture_at(io.BytesIO(data), len(data))


def test_the_date_does_not_move_anything() -> None:
    one, two = archive()[0], archive(LATER)[0]
    assert len(one) == len(two)
    assert one != two


def test_content_encodings_are_recorded_under_another_name() -> None:
    item = warc.Capture("http://h/", DATE, 200, "", [("Content-Encoding", "gzip")], b"plain")
    (found,), _ = read(warc.info(DATE, []) + warc.response(item))
    assert found.payload == b"plain"
    assert found.header("X-Crawl-Content-Encoding") == "gzip"


@given(st.binary(max_size=200_000), st.binary(max_size=2000))
def test_a_member_is_gzip(head: bytes, body: bytes) -> None:
    assert gzip.decompress(warc.member(head, body)) == head + body


@pytest.mark.parametrize("form", ["members", "plain", "one member"])
@given(share=st.floats(0, 1, exclude_max=True))
def test_any_cut_is_noticed_and_costs_the_last_record_alone(form: str, share: float) -> None:
    data, wanted = archive()
    if form != "members":
        data = gzip.decompress(data)
    if form == "one member":
        data = gzip.compress(data)
    cut = int(len(data) * share)
    found, error = read(data[:cut])
    assert [(item.url, item.payload) for item in found] == [
        (item.url, item.payload) for item in wanted[: len(found)]
    ]
    if form == "plain":  # a cut between two records leaves a whole, shorter archive
        assert error is not None or found != wanted
    else:
        ends = [offset for offset, _ in warc.captures(io.BytesIO(data))]
        assert error is not None or cut in ends


@pytest.mark.parametrize(
    "data",
    [b"", b"garbage" * 500, b"\0" * 500, gzip.compress(b"no archive" * 99)],
)
def test_what_is_no_archive(data: bytes) -> None:
    found, error = read(data)
    assert found == []
    assert error is not None
    assert error.records == 0


def test_damage_in_the_middle_leaves_what_was_before() -> None:
    data, wanted = archive()
    offsets = [offset for offset, _ in warc.captures(io.BytesIO(data))]
    broken = bytearray(data)
    middle = offsets[1] + 600
    broken[middle : middle + 40] = b"\xaa" * 40
    found, error = read(bytes(broken))
    assert error is not None
    assert [item.url for item in found] == [item.url for item in wanted[: len(found)]]
    assert 1 <= len(found) < 3


def test_long_payloads_are_cut_so_that_they_can_be_told() -> None:
    data, _ = archive()
    first = next(item for _, item in warc.captures(io.BytesIO(data), max_payload=1000))
    assert len(first.payload) == 1001
