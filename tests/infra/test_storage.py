"""Storage: local folders and S3 behave alike."""

import shutil
import tempfile
import threading
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.store.external_files import expand_globs, open_url
from infra.store.storage import Storage, StorageError
from tests.servers import S3

Make = Callable[[], Storage]


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.e2e)])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """An empty store of either kind."""
    if request.param == "local":
        return Storage(str(tmp_path / "store"))
    server: S3 = request.getfixturevalue("s3")
    return Storage(f"s3://{server.bucket}/{uuid.uuid4().hex}")


def test_files_are_written_read_listed_and_removed(storage: Storage) -> None:
    storage.write("a/one", b"1")
    storage.write("a/b/two", b"22")
    storage.subdir("a").write("one", b"one")  # replaces
    assert storage.list_files() == ["a/b/two", "a/one"]
    assert storage.subdir("a").list_files() == ["b/two", "one"]
    assert storage.list_folders("") == ["a"]
    assert storage.list_folders("a") == ["b"]
    assert storage.read("a/one") == b"one"
    assert storage.size("a/b/two") == 2
    assert storage.exists("a/one")
    assert not storage.exists("a")
    storage.remove("a/one")
    storage.remove("a/one")
    assert storage.list_files() == ["a/b/two"]
    storage.subdir("a").remove_tree()
    assert storage.list_files() == []


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory: links and renames between it and `tmp_path` are refused."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        assert Path(folder).stat().st_dev != tmp_path.stat().st_dev
        yield Path(folder)


def test_folders_that_were_moved_and_linked_back_are_listed_and_removed(
    tmp_path: Path, other_disk: Path
) -> None:
    storage = Storage(str(tmp_path / "store"))
    storage.write("train/one/manifest.json", b"1")
    storage.write("train/two/manifest.json", b"22")
    moved = Path(shutil.move(tmp_path / "store/train/two", other_disk / "two"))
    (tmp_path / "store/train/two").symlink_to(moved)
    (tmp_path / "store/train/two/self").symlink_to(tmp_path / "store/train/two")
    (tmp_path / "store/train/lost").symlink_to(tmp_path / "not mounted")
    assert storage.list_folders("train") == ["one", "two"]
    assert storage.file_sizes() == {"train/one/manifest.json": 1, "train/two/manifest.json": 2}
    assert storage.subdir("train", "two").list_files() == ["manifest.json"]
    storage.subdir("train", "two").remove_tree()
    assert not moved.exists()
    assert storage.list_folders("train") == ["one"]


def test_a_store_may_lie_on_several_disks(
    tmp_path: Path, other_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "store").mkdir()
    (tmp_path / "store/select").symlink_to(other_disk)
    storage = Storage(str(tmp_path / "store"))
    storage.write("select/a/written", b"1")
    assert storage.put_if_absent("select/a/manifest.json", b"22")
    assert not storage.put_if_absent("select/a/manifest.json", b"other")
    storage.upload(other_disk / "a/written", "train/uploaded")
    storage.upload(tmp_path / "store/train/uploaded", "select/uploaded")
    storage.download("select/a/written", tmp_path / "downloaded")
    storage.download("train/uploaded", other_disk / "downloaded/one")
    assert storage.file_sizes() == {
        "select/a/manifest.json": 2,
        "select/a/written": 1,
        "select/downloaded/one": 1,
        "select/uploaded": 1,
        "train/uploaded": 1,
    }
    assert (tmp_path / "downloaded").read_bytes() == b"1"
    storage.subdir("select", "a").remove_tree()
    assert not (other_disk / "a").exists()


def test_a_missing_file_raises(storage: Storage) -> None:
    assert storage.list_files() == []
    assert storage.list_files("nowhere") == []
    assert storage.list_folders("nowhere") == []
    assert not storage.exists("nothing")
    with pytest.raises(FileNotFoundError):
        storage.read("nothing")
    with pytest.raises(FileNotFoundError):
        storage.size("nothing")


def test_reading_seeks(storage: Storage) -> None:
    storage.write("file", bytes(range(200)))
    with storage.open("file") as file:
        file.seek(100)
        assert file.read(3) == bytes([100, 101, 102])


def test_a_write_that_fails_leaves_nothing(storage: Storage) -> None:
    storage.write("other", b"")

    def break_off() -> None:
        with storage.create("file") as file:
            file.write(b"half")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        break_off()
    assert storage.list_files() == ["other"]


def test_the_first_put_wins(storage: Storage) -> None:
    assert storage.put_if_absent("manifest", b"ours")
    assert storage.put_if_absent("manifest", b"ours"), "equal bytes are no lost race"
    assert not storage.put_if_absent("manifest", b"theirs")
    assert storage.read("manifest") == b"ours"


def test_of_many_racing_puts_exactly_one_wins(storage: Storage) -> None:
    for key in range(5):
        won: list[int] = []
        barrier = threading.Barrier(8)

        def race(writer: int, key: int = key) -> None:
            barrier.wait()  # noqa: B023 - the loop waits for its threads
            if storage.put_if_absent(f"key-{key}", b"%d" % writer):
                won.append(writer)  # noqa: B023

        threads = [threading.Thread(target=race, args=(writer,)) for writer in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert storage.read(f"key-{key}") == b"%d" % won[0]


def test_files_are_uploaded_and_downloaded(storage: Storage, tmp_path: Path) -> None:
    here = tmp_path / "file"
    here.write_bytes(b"x" * 3_000_000)
    storage.upload(here, "up")
    storage.download("up", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == here.read_bytes()


def test_globs_name_files_once_and_in_order(tmp_path: Path) -> None:
    for name in ("b/two.txt", "a/three.txt", "a/one.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    files = expand_globs([f"{tmp_path}/*/*.txt", f"{tmp_path}/a/*"])
    assert [Path(name).name for name in files] == ["one.md", "three.txt", "two.txt"]
    with open_url(next(iter(files))) as file:
        assert file.read() == b"a/one.md"
    with pytest.raises(StorageError, match=r"nothing\.\*"):
        expand_globs([f"{tmp_path}/nothing.*"])


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises(StorageError, match="gopher"):
        Storage("gopher://host/x").read("y")


def test_two_colons_in_a_name_do_not_chain_file_systems(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"another file")
    store = Storage(str(tmp_path / "exp::1"))
    store.write("a::b.txt", b"this one")
    assert store.local_path("a::b.txt") == tmp_path / "exp::1" / "a::b.txt"
    assert store.list_files() == ["a::b.txt"]
    found = list(expand_globs([str(tmp_path / "exp::1" / "*.txt")]))
    assert found == [str(tmp_path / "exp::1" / "a::b.txt")]
    with open_url(found[0]) as file:
        assert file.read() == b"this one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "exp::1"]


def test_two_colons_in_a_remote_name_are_part_of_it() -> None:
    store = Storage(f"memory://{uuid.uuid4().hex}::x")
    store.write("b.txt", b"this one")
    assert store.list_files() == ["b.txt"]
    with open_url(f"{store.url}/b.txt") as file:
        assert file.read() == b"this one"


def test_a_chain_of_file_systems_can_be_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("inner.txt", "inside")
    with open_url(f"zip://inner.txt::{tmp_path}/a.zip") as file:
        assert file.read() == b"inside"


def test_a_store_whose_name_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        Storage(f"{tmp_path}/caf\udce9").write("a", b"")


def test_a_file_whose_name_is_not_utf8_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "caf\udce9.txt").write_bytes(b"text")
    (url,) = expand_globs([f"{tmp_path}/*.txt"])
    with open_url(url) as file:
        assert file.read() == b"text"


@pytest.mark.parametrize("remote", ["memory", pytest.param("s3", marks=pytest.mark.e2e)])
def test_an_upload_needs_no_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, remote: str
) -> None:
    url = "memory://uploads"
    if remote == "s3":
        server: S3 = request.getfixturevalue("s3")
        url = f"s3://{server.bucket}/{uuid.uuid4().hex}"
    monkeypatch.setattr("tempfile.tempdir", "/proc/nowhere")
    (tmp_path / "large").write_bytes(bytes(6 << 20))
    store = Storage(url)
    store.upload(tmp_path / "large", "a/large")
    assert store.size("a/large") == 6 << 20


@pytest.mark.parametrize(
    "url",
    [
        "dask://x",
        "reference://x",
        "reference::http://h/x.json",
        "dask::s3://b/x",
        "zip://a::dask://x",
    ],
)
def test_file_systems_that_run_code_are_refused(url: str) -> None:
    with pytest.raises(StorageError, match="can run code"), open_url(url):
        pass
