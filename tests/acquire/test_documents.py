import gzip
import io
import json
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.dataset.fingerprint import document_id
from infra.errors import UserError
from infra.formats.characters import is_blank
from tasks.acquire import document_builder, documents
from tasks.acquire.source import read_unit
from tests.acquire.document_files import read, read_parts, reasons, row, source
from tests.zstd_frames import skippable_frame

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
BAD = {
    b"{broken": "bad_json",
    b'{"other": 1}': "missing_text",
    b'{"text": null}': "missing_text",
    b'{"text": ["a"]}': "missing_text",
    b"[1, 2]": "bad_row",
    b'{"text": "\xc3("}': "bad_utf8",
    b'{"text": "\\udc00"}': "bad_utf8",
    b'{"text": " \\n\\u3000"}': "empty_text",
}


GZ, ZST = gzip.compress, zstandard.compress


def tar_file(data: bytes) -> bytes:
    """A tar file with one member."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("a.jsonl")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "jsonl.zst"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.one_of(TEXT, st.sampled_from(sorted(BAD)), st.just(b"  "))),
    size=st.integers(1, 300),
    flush=st.integers(1, 20),
    ascii_only=st.booleans(),
    newline=st.sampled_from([b"\n", b"\r\n"]),
    last=st.booleans(),
)
def test_every_row_has_one_verdict_however_the_file_is_cut(
    tmp_path: Path,
    suffix: str,
    rows: list[str | bytes],
    size: int,
    flush: int,
    ascii_only: bool,
    newline: bytes,
    last: bool,
) -> None:
    lines = [
        item
        if isinstance(item, bytes)
        else json.dumps({"text": item, "n": 1}, ensure_ascii=ascii_only).encode()
        for item in rows
    ]
    data = newline.join(lines) + (newline if last else b"")
    packed = {
        "jsonl": lambda: data,
        "jsonl.gz": lambda: gzip.compress(data),
        "jsonl.zst": lambda: zstandard.compress(data),
    }[suffix]()
    path = tmp_path / f"a.{suffix}"
    texts = [item for item in rows if isinstance(item, str) and item and not is_blank(item)]
    expected = [
        BAD[item] if isinstance(item, bytes) else "empty_text" if item not in texts else "kept"
        for item in rows
        if item != b"  "
    ]
    whole = read(path, packed)
    assert whole[0]["text"].to_pylist() == texts
    assert reasons(whole[1]) == (expected or ["empty_file"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "UNIT_BYTES", size)
        patch.setattr(documents, "MAX_PART_ROWS", flush)
        patch.setattr(document_builder, "MAX_PART_ROWS", flush)
        cut = read(path)
    assert cut[0].equals(whole[0])
    assert cut[1] == whole[1] or not expected


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.one_of(st.none(), TEXT, st.just(b"\xff")), min_size=1),
    group=st.integers(1, 8),
    size=st.integers(1, 300),
    kind=st.sampled_from([pa.string(), pa.large_string(), pa.binary(), pa.large_binary()]),
    dictionary=st.booleans(),
)
def test_parquet_rows_are_those_of_jsonl(
    tmp_path: Path,
    rows: list[str | bytes | None],
    group: int,
    size: int,
    kind: pa.DataType,
    dictionary: bool,
) -> None:
    raw = [item.encode() if isinstance(item, str) else item for item in rows]
    column = pa.array(raw, pa.large_binary() if "large" in str(kind) else pa.binary()).view(kind)
    table = pa.table({"text": column, "n": range(len(rows))})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=group, use_dictionary=dictionary)
    whole = read(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "UNIT_BYTES", size)
        cut = read(path)
    assert cut[0].equals(whole[0])
    assert cut[1] == whole[1]
    assert reasons(whole[1]) == [
        "missing_text"
        if item is None
        else "bad_utf8"
        if isinstance(item, bytes)
        else "kept"
        if item and not is_blank(item)
        else "empty_text"
        for item in rows
    ]
    same = [item for item in rows if isinstance(item, str)]
    jsonl, _ = read(tmp_path / "a.jsonl", b"".join(row(text) for text in same))
    assert whole[0].drop(["segment"]).equals(jsonl.drop(["segment"]))


def test_columns_by_recipe(tmp_path: Path) -> None:
    data = row("a", link="http://x/1", name="T", day="2020-02-30", terms="mit", lang="de") + row(
        "b", link=7, name="\ud800", day="2020-02-03 10:00:00Z", terms=None, lang="", x="\ud800"
    )
    columns = {
        "url_column": "link",
        "title_column": "name",
        "date_column": "day",
        "license_column": "terms",
        "language_column": "lang",
    }
    kept, _ = read(tmp_path / "a.jsonl", data, license="cc0", **columns)
    first, second = kept.to_pylist()
    assert first["id"] == document_id("dump", "http://x/1", b"a")
    assert second["id"] == document_id("dump", "7", b"b")
    names = ("url", "title", "date", "license", "language_hint", "source", "chapters")
    assert [first[n] for n in names] == ["http://x/1", "T", None, "mit", "de", "dump", None]
    assert [second[n] for n in names] == [
        "7", None, "2020-02-03T10:00:00Z", "cc0", None, "dump", None,
    ]  # fmt: skip


def test_evidence_has_the_line_and_its_beginning(tmp_path: Path) -> None:
    _, verdicts = read(tmp_path / "rows.jsonl", row("good") + b"\n" + b'{"text": "x' + b"y" * 500)
    assert verdicts[1]["reason"] == "bad_json"
    evidence = verdicts[1]["evidence"]
    assert (evidence["file"], evidence["line"]) == ("rows.jsonl", 3)
    assert evidence["error"].startswith("Unterminated string")
    assert evidence["begins"] == '{"text": "x' + "y" * 109


def test_no_row_has_the_column_is_a_count_not_a_crash(tmp_path: Path) -> None:
    data = b"".join(json.dumps({"content": "x", "n": n}).encode() + b"\n" for n in range(5))
    kept, verdicts = read(tmp_path / "a.jsonl", data)
    assert kept.num_rows == 0
    assert Counter(reasons(verdicts)) == {"missing_text": 5}
    assert verdicts[0]["evidence"]["error"] == "no 'text'; it has content, n"
    assert len({verdict["id"] for verdict in verdicts}) == 5


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_truncated_file_gives_the_rows_before_the_cut(tmp_path: Path, suffix: str) -> None:
    data = b"".join(row(f"text number {n * n}") for n in range(20_000))
    packed = gzip.compress(data) if suffix == "gz" else zstandard.compress(data)
    kept, verdicts = read(tmp_path / f"a.jsonl.{suffix}", packed[: len(packed) // 2])
    texts = kept["text"].to_pylist()
    assert 0 < len(texts) < 20_000
    assert texts == [f"text number {n * n}" for n in range(len(texts))]
    assert Counter(reasons(verdicts)) == {"kept": len(texts), "truncated_file": 1}
    assert verdicts[-1]["evidence"]["line"] == len(texts) + 1


ROWS = [row(f"Row {number}") for number in range(20)]


def with_dictionary(data: bytes) -> bytes:
    samples: list[bytes | bytearray | memoryview] = [
        str(number).encode() * 40 for number in range(200)
    ]
    dictionary = zstandard.train_dictionary(1000, samples)
    return zstandard.ZstdCompressor(dict_data=dictionary).compress(data)


@pytest.mark.parametrize(
    ("name", "pack", "num_rows", "failure"),
    [
        ("pzstd", lambda a, b: skippable_frame(b"size") + ZST(a) + skippable_frame(b"size") + ZST(b), 20, None),
        ("seekable", lambda a, b: ZST(a) + ZST(b) + skippable_frame(b"table", 0xE), 20, None),
        ("skip each", lambda a, b: b"".join(skippable_frame(b"x") + ZST(x) for x in (a, b)), 20, None),
        ("gz twice", lambda a, b: GZ(GZ(a + b)), 20, None),
        ("gz members in gz", lambda a, b: GZ(GZ(a) + GZ(b)), 20, None),
        ("gz thrice", lambda a, b: GZ(GZ(GZ(a + b))), 20, None),
        ("gz four times", lambda a, b: GZ(GZ(GZ(GZ(a + b)))), 0, "unreadable_file"),
        ("zlib", lambda a, b: zlib.compress(a + b, 9), 0, "unreadable_file"),
        ("7-Zip", lambda *_: b"7z\xbc\xaf\x27\x1crest", 0, "unreadable_file"),
        ("zst in gz", lambda a, b: GZ(ZST(a + b)), 20, None),
        ("gz in zst", lambda a, b: ZST(GZ(a + b)), 20, None),
        ("bytes behind gz", lambda a, b: GZ(a + b) + b"garbage", 20, "corrupt_file"),
        ("bytes behind zst", lambda a, b: ZST(a) + ZST(b) + b"garbage", 20, "corrupt_file"),
        ("cut gz in gz", lambda a, b: GZ(GZ(a) + GZ(b)[:-9]), 20, "truncated_file"),
        ("cut frame to be skipped", lambda a, b: ZST(a + b) + skippable_frame(b"xy")[:-1], 20, "truncated_file"),
        ("only a frame to be skipped", lambda *_: skippable_frame(b"x"), 0, "empty_file"),
        ("dictionary", lambda a, b: with_dictionary(a + b), 0, "unreadable_file"),
        ("lz4", lambda *_: b"\x04\x22\x4d\x18rest", 0, "unreadable_file"),
        ("lz4 behind a skipped frame", lambda *_: skippable_frame(b"x") + b"\x04\x22\x4d\x18rest", 0,
         "unreadable_file"),
    ],
)  # fmt: skip
def test_packed_rows_are_read_or_the_file_is_one_failure(
    tmp_path: Path,
    name: str,
    pack: Callable[[bytes, bytes], bytes],
    num_rows: int,
    failure: str | None,
) -> None:
    data = pack(b"".join(ROWS[:9]), b"".join(ROWS[9:]))
    kept, verdicts = read(tmp_path / name, data)
    assert kept["text"].to_pylist() == [f"Row {number}" for number in range(num_rows)]
    assert reasons(verdicts) == ["kept"] * num_rows + ([failure] if failure else [])


def test_a_file_whose_name_is_not_utf8_is_read_under_a_name_that_is(tmp_path: Path) -> None:
    (tmp_path / "caf\udce9.jsonl").write_bytes(ROWS[0] + b"{")
    kept, verdicts = read(tmp_path / "*.jsonl")
    assert kept["text"].to_pylist() == ["Row 0"]
    assert verdicts[1]["evidence"]["file"] == "caf\ufffd.jsonl"


def test_byte_order_marks_of_joined_files_are_not_part_of_rows(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    data = mark + ROWS[0] + mark + ROWS[1] + ROWS[2] + mark + b"\n"
    kept, verdicts = read(tmp_path / "a.jsonl", data)
    assert kept["text"].to_pylist() == ["Row 0", "Row 1", "Row 2"]
    assert reasons(verdicts) == ["kept"] * 3


def test_a_complete_last_row_before_the_truncation_is_kept(tmp_path: Path) -> None:
    packed = gzip.compress(row("one") + row("two").rstrip(b"\n"))
    kept, verdicts = read(tmp_path / "a.jsonl.gz", packed[:-8])  # its checksum is missing
    assert kept["text"].to_pylist() == ["one", "two"]
    assert reasons(verdicts) == ["kept", "kept", "truncated_file"]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.jsonl", b"", "empty_file"),
        ("a.jsonl", b"\n \n", "empty_file"),
        ("a.jsonl.gz", gzip.compress(b"", mtime=0), "empty_file"),
        ("a.parquet", b"", "empty_file"),
        ("a.parquet", b"PAR1 and then nothing", "unreadable_file"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\n", "unreadable_file"),
        ("a.jsonl", b"PK\x03\x04....", "unreadable_file"),
        (
            "a.jsonl",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12\n",
            "unreadable_file",
        ),
        ("a.jsonl", row("UTF-16").decode().encode("utf-16"), "unreadable_file"),
        ("a.jsonl", zlib.compress(row("zlib") * 9), "unreadable_file"),
        ("a.tar", tar_file(row("tar")), "unreadable_file"),
        ("a.tar.gz", gzip.compress(tar_file(row("tar") * 999), mtime=0), "unreadable_file"),
        ("a.jsonl.gz", gzip.compress(b"PK\x03\x04" + row("zip") * 999, mtime=0), "unreadable_file"),
        ("a.parquet.zst", ZST(b"PAR1" + row("table")), "unreadable_file"),
        ("a.jsonl.bz2", b"BZh91AY", "unreadable_file"),
        ("a.jsonl.gz", b"\x1f\x8b\x08\x00", "truncated_file"),
        ("a.jsonl.gz", b"\x1f\x8b\xff\xff garbage garbage", "corrupt_file"),
    ],
)
def test_a_file_without_rows_is_one_failure(
    tmp_path: Path, name: str, data: bytes, reason: str
) -> None:
    kept, verdicts = read(tmp_path / name, data)
    assert kept.num_rows == 0
    assert reasons(verdicts) == [reason]
    assert verdicts[0]["verdict"] == "failed"
    assert verdicts[0]["evidence"]["file"] == name
    assert str(tmp_path) not in json.dumps(verdicts)


def test_a_line_over_the_limit_fails_unread(tmp_path: Path) -> None:
    data = row("a") + row("x" * 5000) + row("b")
    kept, verdicts = read(tmp_path / "a.jsonl", data, max_row_bytes=1000)
    assert kept["text"].to_pylist() == ["a", "b"]
    assert reasons(verdicts) == ["kept", "too_large", "kept"]
    assert verdicts[1]["evidence"] == {
        "file": "a.jsonl", "line": 2, "bytes": 5012, "limit": 1000,
    }  # fmt: skip
    pq.write_table(pa.table({"text": ["a", "x" * 5000]}), tmp_path / "a.parquet")
    _, verdicts = read(tmp_path / "a.parquet", max_row_bytes=1000)
    assert reasons(verdicts) == ["kept", "too_large"]


def test_a_single_line_of_50_mb_is_a_document(tmp_path: Path) -> None:
    text = "word " * 10_000_000
    kept, _ = read(tmp_path / "a.jsonl", row(text) + row("small"))
    assert [len(text.as_py()) for text in kept["text"]] == [50_000_000, 5]


def test_large_plain_files_are_cut_into_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "UNIT_BYTES", 1000)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(row(f"text {n}") for n in range(500)))
    found = source(path).list_units()
    assert len(found) > 8
    assert len({unit.key for unit in found}) == len(found)
    (tmp_path / "b.jsonl").write_bytes(row("other"))
    more = source(tmp_path / "*.jsonl").list_units()
    assert [unit.key for unit in more[:-1]] == [unit.key for unit in found]


def test_keys_and_documents_do_not_depend_on_the_folder(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jsonl").write_bytes(row("a"))
    one, two = (source(tmp_path / folder / "*").list_units() for folder in ("x", "y"))
    assert one[0].key == two[0].key
    assert next(read_unit(*one[0].payload)) == next(read_unit(*two[0].payload))


def test_parts_end_by_bytes_and_by_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b"".join(row("x" * 100) for _ in range(95))))
    monkeypatch.setattr(document_builder, "MAX_PART_BYTES", 1000)
    assert [o.rows.num_rows for o in read_parts(source(path))] == [10] * 9 + [5]
    monkeypatch.setattr(document_builder, "MAX_PART_ROWS", 4)
    assert [o.rows.num_rows for o in read_parts(source(path))] == [4] * 23 + [3]


def test_a_file_that_changes_under_the_reader_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(row("one"))
    (unit,) = source(path).list_units()
    for changed in (row("two"), row("one") + row("more"), b""):
        path.write_bytes(changed)
        with pytest.raises(UserError, match=r"a\.jsonl was changed"):
            list(read_unit(*unit.payload))


def test_a_byte_order_mark_and_other_line_ends(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbf" + row("one").replace(b"\n", b"\r\n") + row("two")
    assert read(tmp_path / "a.jsonl", data)[0]["text"].to_pylist() == ["one", "two"]


def test_settings_that_decide_the_bytes(tmp_path: Path) -> None:
    assert "paths" not in source(tmp_path).output_config()
    assert source(tmp_path, url_column="u").output_config()["url_column"] == "u"


@pytest.mark.parametrize("text", ["\x7f", "\u200b\ufeff", "\u00ad \u2060", "\u3164\n"])
def test_text_that_shows_nothing_is_empty(tmp_path: Path, text: str) -> None:
    assert reasons(read(tmp_path / "a.jsonl", row(text))[1]) == ["empty_text"]
