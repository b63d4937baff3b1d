"""WARC archives in containers: zstd with frames to be skipped and dictionaries, lz4, two layers."""

import gzip
import io

import pytest
import zstandard
from fastwarc.stream_io import Lz4Writer

from infra.formats import warc
from tests.infra.warc_archives import pieces, read_skipping_damage
from tests.zstd_frames import skippable_frame


@pytest.mark.parametrize("placed", ["first", "between", "last", "before each"])
def test_frames_to_be_skipped_are_no_damage(placed: str) -> None:
    records, wanted = pieces("zstd")
    match placed:
        case "first":
            records.insert(0, skippable_frame(b"pzstd"))
        case "between":
            records.insert(3, skippable_frame(b"", 7))
        case "last":
            records.append(skippable_frame(b"seek table", 0xE))
        case _:
            records = [skippable_frame(b"x" * 40) + record for record in records]
    captures, damage = read_skipping_damage(b"".join(records))
    assert damage == []
    assert captures == wanted


def _with_dictionary(*, compressed: bool) -> tuple[bytes, list[bytes], list[warc.Capture]]:
    """The frame of a dictionary, records that need it, and their captures."""
    plain, wanted = pieces("plain")
    samples: list[bytes | bytearray | memoryview] = [
        record[at : at + 200] for record in plain for at in range(0, min(len(record), 9000), 50)
    ]
    dictionary = zstandard.train_dictionary(4000, samples)
    packer = zstandard.ZstdCompressor(dict_data=dictionary, write_checksum=True)
    content = dictionary.as_bytes()
    frame = skippable_frame(zstandard.compress(content) if compressed else content, 0xD)
    return frame, [packer.compress(record) for record in plain], wanted


@pytest.mark.parametrize("compressed", [False, True])
def test_an_archive_brings_its_dictionary(compressed: bool) -> None:
    frame, records, wanted = _with_dictionary(compressed=compressed)
    captures, damage = read_skipping_damage(frame + b"".join(records))
    assert damage == []
    assert captures == wanted


def test_damage_in_an_archive_with_a_dictionary_loses_one_record() -> None:
    frame, records, wanted = _with_dictionary(compressed=True)
    starts = [len(frame) + sum(map(len, records[:index])) for index in range(8)]
    records[3] = records[3][:20] + b"\xff" * 5 + records[3][25:]
    data = frame + b"".join(records)
    captures, damage = read_skipping_damage(data)
    assert captures == wanted[:3] + wanted[4:]
    assert [(item.offset, item.end) for item in damage] == [(starts[3], starts[4])]
    offsets = [
        offset
        for offset, item in warc.iter_captures_skipping_damage(io.BytesIO(data))
        if isinstance(item, warc.Capture)
    ]
    assert offsets == starts[:3] + starts[4:7]


@pytest.mark.parametrize("cut", [30, 300])
def test_an_archive_with_a_dictionary_may_be_truncated(cut: int) -> None:
    frame, records, wanted = _with_dictionary(compressed=False)
    captures, damage = read_skipping_damage((frame + b"".join(records))[:-cut])
    assert captures == wanted[: len(captures)]
    assert len(captures) >= 4
    assert len(damage) == 1
    assert damage[0].end is None


def test_an_archive_without_its_dictionary_says_so() -> None:
    _, records, _ = _with_dictionary(compressed=False)
    captures, damage = read_skipping_damage(b"".join(records))
    assert captures == []
    assert [item.records_read for item in damage] == [0]
    assert "ictionary" in damage[0].error


def test_an_lz4_archive_is_read_to_its_end() -> None:
    plain, wanted = pieces("plain")
    out = io.BytesIO()
    for record in plain:
        with Lz4Writer(out) as writer:
            writer.write(record)
    captures, damage = read_skipping_damage(skippable_frame(b"x") + out.getvalue())
    assert damage == []
    assert captures == wanted
    captures, damage = read_skipping_damage(out.getvalue()[:-30])
    assert captures == wanted[: len(captures)]
    assert [item.end for item in damage] == [None]


@pytest.mark.parametrize("inner", ["members", "zstd"])
def test_an_archive_that_is_compressed_twice_says_so(inner: str) -> None:
    records, _ = pieces(inner)
    captures, damage = read_skipping_damage(gzip.compress(b"".join(records)))
    assert captures == []
    assert len(damage) == 1
    assert "twice" in damage[0].error
