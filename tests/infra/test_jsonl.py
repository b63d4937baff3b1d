import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.formats.jsonl import (
    InvalidRowError,
    Line,
    LineRangeSplitter,
    OversizeLine,
    parse_line,
    split_lines,
)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(bounds)]


def lines(chunks: list[bytes], limit: int = 1 << 20) -> list[Line]:
    return [line for batch in split_lines(iter(chunks), limit) for line in batch]


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=8))
def test_lines_do_not_depend_on_blocks(data: bytes, cuts: list[int]) -> None:
    expected: list[Line] = list(data.split(b"\n"))
    assert lines(pieces(data, cuts)) == (expected if expected[-1] else expected[:-1])


@given(st.lists(st.integers(0, 30), max_size=12), st.lists(st.integers(0, 400), max_size=8))
def test_oversize_lines_have_size_and_digest(lengths: list[int], cuts: list[int]) -> None:
    data = b"".join(b"x" * length + b"\n" for length in lengths)
    split = lines(pieces(data, cuts), limit=10)
    sizes = [line.size if isinstance(line, OversizeLine) else len(line) for line in split]
    assert sizes == lengths
    assert all(
        isinstance(line, OversizeLine) == (size > 10)
        for line, size in zip(split, sizes, strict=True)
    )
    assert split == lines([data], limit=10)


@given(st.binary(max_size=300), st.integers(1, 50), st.lists(st.integers(0, 300), max_size=8))
def test_ranges_are_complete_lines_and_cover_the_file(
    data: bytes, size: int, cuts: list[int]
) -> None:
    watcher = LineRangeSplitter(size)
    for piece in pieces(data, cuts):
        watcher.update(piece)
    ranges = watcher.ranges()
    assert b"".join(data[start:end] for start, end, _, _ in ranges) == data
    for start, end, line, _ in ranges:
        assert line == 1 + data[:start].count(b"\n")
        assert end == len(data) or data[end - 1 : end] == b"\n"
        assert end == len(data) or end - start >= size
    once = LineRangeSplitter(size)
    once.update(data)
    assert once.ranges() == ranges


@pytest.mark.parametrize(
    "line",
    [
        b'{"text": "a", "text": "b"}\r',
        b' {"n": 123456789012345678901234567890, "x": [1, {"y": null}]} ',
        b'{"score": NaN, "inf": -Infinity}',
        b'{"broken": "\\ud83d", "text": "fine"}',
    ],
)
def test_what_pythons_parser_accepts_is_accepted(line: bytes) -> None:
    mine, python = parse_line(line), json.loads(line)
    assert str(mine.keys()) == str(python.keys())
    assert mine.get("text") == python.get("text")


@pytest.mark.parametrize(
    ("line", "reason", "message"),
    [
        (b'{"text": "a"', "bad_json", "column"),
        (b'{"a": 1} {"a": 2}', "bad_json", "Extra data at column 10"),
        (b"text", "bad_json", "Expecting value"),
        (b'{"text": "\xff"}', "bad_utf8", "byte 10"),
        (b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}", "bad_json", "nested too deeply"),
        (b"[1]", "bad_row", "a JSON array"),
        (b'"x"', "bad_row", "a JSON string"),
        (b"null", "bad_row", "a JSON value"),
        (b"1.5", "bad_row", "a JSON number"),
    ],
)
def test_invalid_lines_have_a_reason(line: bytes, reason: str, message: str) -> None:
    with pytest.raises(InvalidRowError, match=message) as caught:
        parse_line(line)
    assert caught.value.reason == reason
