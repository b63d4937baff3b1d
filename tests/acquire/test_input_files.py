"""Input files: read once for their digest, and again only after a change."""

import os
from pathlib import Path

import fsspec
import pytest

from infra.store import external_files
from tasks.acquire import input_files
from tasks.acquire.documents import DocumentsSource
from tasks.acquire.input_files import InputChangedError, forget_digests, list_files
from tasks.acquire.source import read_unit


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The names of files that were read whole, in a cache of its own."""
    names: list[str] = []
    digest_file = input_files._digest_file

    def count(url: str, *args: object) -> object:
        names.append(Path(url).name)
        return digest_file(url, *args)  # type: ignore[arg-type]

    monkeypatch.setenv("GRISTMILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(external_files, "MIN_STAMP_AGE_NS", 0)
    monkeypatch.setattr(input_files, "_digest_file", count)
    return names


def test_a_file_is_read_for_its_digest_once(tmp_path: Path, opened: list[str]) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_bytes(name.encode())
    first = list_files([f"{tmp_path}/*.txt"])
    assert sorted(opened) == ["a.txt", "b.txt"]
    opened.clear()
    assert list_files([f"{tmp_path}/*.txt"]) == first
    assert opened == []
    times = (tmp_path / "a.txt").stat()
    (tmp_path / "a.txt").write_bytes(b"A.txt")  # as long as before
    os.utime(tmp_path / "a.txt", ns=(times.st_atime_ns, times.st_mtime_ns))
    (tmp_path / "c.txt").write_bytes(b"c.txt")
    changed = list_files([f"{tmp_path}/*.txt"])
    assert sorted(opened) == ["a.txt", "c.txt"]
    assert changed[0].digest != first[0].digest
    assert changed[1] == first[1]


def test_a_file_that_was_just_changed_is_read_each_time(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external_files, "MIN_STAMP_AGE_NS", 3_600_000_000_000)
    (tmp_path / "a.txt").write_bytes(b"a")
    list_files([f"{tmp_path}/a.txt"])
    list_files([f"{tmp_path}/a.txt"])
    assert opened == ["a.txt", "a.txt"]


def test_ranges_of_a_large_file_are_cached_with_its_digest(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.acquire.documents.UNIT_BYTES", 100)
    lines = "".join(f'{{"text": "document {number}"}}\n' for number in range(50))
    (tmp_path / "a.jsonl").write_text(lines)
    source = DocumentsSource(name="s", kind="documents", paths=(f"{tmp_path}/a.jsonl",))
    first = source.list_units()
    assert len(first) > 5
    assert source.list_units() == first
    assert opened == ["a.jsonl"]
    rows = [n for unit in first for part in read_unit(*unit.payload) for n in part.rows["id"]]
    assert len(rows) == 50


def test_a_remote_file_is_identified_by_its_tag(
    opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tags = {"size": 1, "ETag": '"1"'}
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/inputs/a.txt", b"a")
    monkeypatch.setattr(
        type(memory), "glob", lambda self, path, detail: {"inputs/a.txt": tags}, raising=True
    )
    for tag, count in (('"1"', 1), ('"1"', 1), ('"2"', 2), ('W/"3"', 3), ('W/"3"', 4)):
        tags["ETag"] = tag
        (file,) = list_files(["memory://inputs/*.txt"])
        assert file.read(10) == b"a"
        assert len(opened) == count
    memory.rm("/inputs", recursive=True)


def test_bytes_that_changed_behind_an_equal_stamp_are_read_again_after_an_error(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external_files, "_local_stamp", lambda stat: str(stat.st_size))
    (tmp_path / "a.txt").write_bytes(b"a")
    list_files([f"{tmp_path}/a.txt"])
    (tmp_path / "a.txt").write_bytes(b"b")
    (file,) = list_files([f"{tmp_path}/a.txt"])
    with pytest.raises(InputChangedError):
        file.read(10)
    forget_digests()
    (file,) = list_files([f"{tmp_path}/a.txt"])
    assert file.read(10) == b"b"
