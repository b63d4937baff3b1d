"""WARC records: written, read back, and read from archives that end too early."""

import gzip
import io
import random

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

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
    found: list[warc.Capture] = []
    try:
        found.extend(item for _, item in warc.iter_captures(io.BytesIO(data)))
    except warc.WarcReadError as error:
        return found, error
    return found, None


def test_records_are_read_back() -> None:
    data, wanted = archive()
    found, error = read(data)
    assert error is None
    assert [(item.url, item.status, item.payload) for item in found] == [
        (item.url, item.status, item.payload) for item in wanted
    ]
    assert found[0].get_all_headers("set-cookie") == ["a", "b\u00e9"]
    assert found[0].get_header("content-length") == "200000"
    assert found[0].date == DATE


def test_a_record_stands_alone_at_its_offset() -> None:
    data, _ = archive()
    for offset, item in warc.iter_captures(io.BytesIO(data)):
        assert warc.read_capture(io.BytesIO(data), offset) == item
    with pytest.raises(warc.WarcReadError):
        warc.read_capture(io.BytesIO(data), len(data))


def test_the_date_does_not_move_anything() -> None:
    one, two = archive()[0], archive(LATER)[0]
    assert len(one) == len(two)
    assert one != two


def test_content_encodings_are_recorded_under_another_name() -> None:
    item = warc.Capture("http://h/", DATE, 200, "", [("Content-Encoding", "gzip")], b"plain")
    (found,), _ = read(warc.warcinfo_record(DATE, []) + warc.response_record(item))
    assert found.payload == b"plain"
    assert found.get_header("X-Crawl-Content-Encoding") == "gzip"


@given(st.binary(max_size=200_000), st.binary(max_size=2000))
def test_a_member_is_gzip(head: bytes, body: bytes) -> None:
    assert gzip.decompress(warc.gzip_member(head, body)) == head + body


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
        ends = [offset for offset, _ in warc.iter_captures(io.BytesIO(data))]
        assert error is not None or cut in ends


@pytest.mark.parametrize(
    "data",
    [b"", b"garbage" * 500, b"\0" * 500, gzip.compress(b"no archive" * 99, mtime=0)],
)
def test_what_is_no_archive(data: bytes) -> None:
    found, error = read(data)
    assert found == []
    assert error is not None
    assert error.records_read == 0


def test_damage_in_the_middle_leaves_what_was_before() -> None:
    data, wanted = archive()
    offsets = [offset for offset, _ in warc.iter_captures(io.BytesIO(data))]
    broken = bytearray(data)
    middle = offsets[1] + 600
    broken[middle : middle + 40] = b"\xaa" * 40
    found, error = read(bytes(broken))
    assert error is not None
    assert [item.url for item in found] == [item.url for item in wanted[: len(found)]]
    assert 1 <= len(found) < 3


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
    whole, error = read(b"".join(records))
    assert error is None
    return records, whole


def salvaged(data: bytes) -> tuple[list[warc.Capture], list[warc.DamagedRange]]:
    found = list(warc.iter_captures_skipping_damage(io.BytesIO(data)))
    assert [offset for offset, _ in found] == sorted(offset for offset, _ in found)
    return (
        [item for _, item in found if isinstance(item, warc.Capture)],
        [item for _, item in found if isinstance(item, warc.DamagedRange)],
    )


@pytest.mark.parametrize("form", ["members", "zstd", "plain"])
@settings(max_examples=100)
@given(data=st.data())
def test_one_damaged_record_costs_itself_alone(form: str, data: st.DataObject) -> None:
    records, wanted = pieces(form)
    place = data.draw(st.integers(0, len(records) - 1), "record")
    whole = bytearray(records[place])
    near = data.draw(st.sampled_from([40, 400, len(whole)]), "within")
    at = data.draw(st.integers(0, min(near, len(whole)) - 1), "byte")
    length = data.draw(st.integers(1, len(whole) - at), "length")
    match data.draw(st.sampled_from(["flip", "cut", "garbage", "insert"]), "damage"):
        case "flip":
            whole[at] ^= 1 << data.draw(st.integers(0, 7), "bit")
        case "cut":
            del whole[at : at + length]
        case "garbage":
            whole[at : at + length] = random.Random(at).randbytes(length)
        case "insert":
            whole[at:at] = b"\0\r\n\xff" * 5
    broken = b"".join([*records[:place], bytes(whole), *records[place + 1 :]])
    found, damage = salvaged(broken)
    others = [item for n, item in enumerate(wanted) if n != place]
    if form != "plain":  # checksums leave no damaged record unnoticed
        assert found in (others, wanted)
    else:
        assert [item for item in found if item in others] == others
        assert len(found) <= len(wanted)
    start = sum(map(len, records[:place]))
    for item in damage:
        assert start <= item.offset <= start + len(whole)
        rest = [b"".join(records[place + n :]) for n in (0, 1)]  # garbage may lie in front of it
        assert item.end is None or broken[item.end :] in rest
    assert len(damage) <= 1


def test_every_damaged_stretch_is_one() -> None:
    records, wanted = pieces("members", 12)
    for place in (0, 3, 4, 8, 11):
        records[place] = records[place][:15] + records[place][25:]
    found, damage = salvaged(b"".join(records))
    assert found == [wanted[place] for place in (1, 2, 5, 6, 7, 9, 10)]
    starts = [sum(map(len, records[:place])) for place in range(13)]
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
    assert salvaged(data) == (wanted, [])


def test_members_of_several_records() -> None:
    plain, wanted = pieces("plain")
    members = [gzip.compress(b"".join(plain[at : at + 2])) for at in range(0, 7, 2)]
    assert salvaged(b"".join(members)) == (wanted, [])
    members[1] = members[1][:30] + members[1][60:]
    found, damage = salvaged(b"".join(members))
    assert found == [*wanted[:2], *wanted[4:]]
    assert [item.offset for item in damage] == [len(members[0])]


def test_a_plain_record_without_type_or_address_is_damaged() -> None:
    records, wanted = pieces("plain", 3)
    for lost in (b"WARC-Type", b"WARC-Target-URI"):
        broken = [records[0], records[1].replace(lost, lost[::-1]), records[2]]
        found, damage = salvaged(b"".join(broken))
        assert found == [wanted[0], wanted[2]]
        assert len(damage) == 1


def test_headers_that_ran_into_each_other_are_nobodys() -> None:
    records, wanted = pieces("plain", 3)
    broken = [records[0], records[1][:100], b"\r\n", records[2]]
    found, damage = salvaged(b"".join(broken))
    assert found == [wanted[0], wanted[2]]
    assert len(damage) == 1


def test_long_payloads_are_cut_so_that_they_can_be_told() -> None:
    data, _ = archive()
    first = next(item for _, item in warc.iter_captures(io.BytesIO(data), max_payload=1000))
    assert len(first.payload) == 1001
