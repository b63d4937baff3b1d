"""A full or read-only disk is named: the store, the cache or the temporary folder."""

import errno
from pathlib import Path
from typing import Any

import pytest

from infra.store.storage import Storage, StorageError
from infra.store.writable import check_store_url, check_writable, is_disk_error


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    folders = {name: tmp_path / name for name in ("store", "cache", "temporary")}
    folders["temporary"].mkdir()
    monkeypatch.setenv("GRISTMILL_CACHE", str(folders["cache"]))
    monkeypatch.setattr("tempfile.tempdir", str(folders["temporary"]))
    return folders


def test_nothing_is_left_where_a_run_can_write(folders: dict[str, Path]) -> None:
    check_writable(Storage(str(folders["store"])))
    assert [list(folder.iterdir()) for folder in folders.values()] == [[], [], []]


@pytest.mark.parametrize(
    ("name", "words"),
    [("store", "storage"), ("cache", "GRISTMILL_CACHE"), ("temporary", "TMPDIR")],
)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_the_disk_that_cannot_be_written_to_is_named(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, name: str, words: str, code: int
) -> None:
    open_file = Path.open

    def fail(self: Path, mode: str = "r", **options: Any) -> Any:
        if "w" in mode and folders[name] in self.parents:
            raise OSError(code, "no more")
        return open_file(self, mode, **options)

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(StorageError, match=rf"{words}.*no more|{folders[name]}.*no more.*{words}"):
        check_writable(Storage(str(folders["store"])))


def test_a_file_in_place_of_the_store_is_named(folders: dict[str, Path]) -> None:
    folders["store"].write_text("a file")
    with pytest.raises(StorageError, match=str(folders["store"])):
        check_writable(Storage(str(folders["store"])))


def test_a_store_that_overwrites_files_is_refused(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Storage, "put_if_absent", lambda *_: True)
    with pytest.raises(StorageError, match="overwrites"):
        check_writable(Storage(str(folders["store"])))


def test_a_full_disk_is_found_among_the_causes_of_an_error() -> None:
    error = RuntimeError("training failed")
    assert not is_disk_error(error)
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert is_disk_error(error)


@pytest.mark.parametrize(
    "url",
    [
        "http://host/x",
        "memory://x",
        "zip://x.zip",
        "github://a:b@c",
        "reference://x",
        "dask://x",
        "nothing://x",
        "s3a+x://y",
        "ftp://h/x",
        "",
        " ",
    ],
)
def test_file_systems_that_cannot_hold_a_store_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"store|expected"):
        check_store_url(url)


@pytest.mark.parametrize(
    "url", ["./data", "/x/y", "file:///x", "s3://b/p", "gs://b/p", "abfs://c/p"]
)
def test_folders_and_object_stores_hold_a_store(url: str) -> None:
    assert check_store_url(url) == url
