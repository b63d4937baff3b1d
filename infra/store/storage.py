"""The only module that opens, lists, commits and removes files, at any fsspec URL.

Writes are atomic: a local file is written under a temporary name, flushed to the disk and renamed;
an object store does the same with one put. ``put_if_absent`` is the commit: it fails if another
writer was first.
"""

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import fsspec
from fsspec.implementations.local import LocalFileSystem

from infra.errors import UserError

_PRECONDITION_FAILED, _CONFLICT = 412, 409
_MAX_ATTEMPTS = 5

# File systems of fsspec inside or in front of another one, which ``::`` follows.
_WRAPPERS = (
    "blockcache", "cached", "dir", "filecache", "libarchive", "reference", "simplecache", "tar", "zip",
)  # fmt: skip
# A Dask worker's pickles are loaded; templates of a reference file are rendered without a sandbox.
_UNSAFE_PROTOCOLS = ("dask", "reference")

Names = list[str]


class StorageError(UserError):
    """A path that cannot be read or written; the message names it."""


@dataclass(frozen=True)
class Storage:
    """A folder at an fsspec URL. Names below it are relative, with ``/`` between their parts.

    Attributes:
        url: a local path or any URL fsspec knows, such as ``s3://bucket/prefix``.
        options: extra arguments of the file system (credentials are better taken from the
            environment: ``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``).
    """

    url: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __getstate__(self) -> dict[str, Any]:
        # Another process may have another working directory.
        return {
            "url": self.url if is_remote(self.url) else absolute_path(self.url),
            "options": dict(self.options),
        }

    @cached_property
    def _target(self) -> tuple[Any, str]:
        try:
            self.url.encode()
        except UnicodeEncodeError:
            message = f"{to_utf8(self.url)}: the name is not UTF-8; rename the folder"
            raise StorageError(message) from None
        return open_filesystem(self.url, self.options)

    @property
    def _fs(self) -> Any:
        return self._target[0]

    @property
    def is_local(self) -> bool:
        """Whether the storage is a folder of this machine."""
        return isinstance(self._fs, LocalFileSystem)

    def _path(self, name: str) -> str:
        return f"{self._target[1].rstrip('/')}/{name}" if name else self._target[1]

    def subdir(self, *names: str) -> "Storage":
        """Return a folder below this one."""
        return Storage("/".join((self.url.rstrip("/"), *names)), self.options)

    def parent(self, levels: int = 1) -> "Storage":
        """Return the folder some levels above this one."""
        return Storage(self.url.rstrip("/").rsplit("/", levels)[0], self.options)

    def local_path(self, name: str = "") -> Path | None:
        """Return the file's path on this machine; ``None`` if the storage is remote."""
        return Path(self._path(name)) if self.is_local else None

    def exists(self, name: str) -> bool:
        """Return whether a file of this name exists (folders do not count)."""
        try:
            return bool(self._fs.info(self._path(name))["type"] == "file")
        except FileNotFoundError:
            return False

    def size(self, name: str) -> int:
        """Return the file's length in bytes. Raises ``FileNotFoundError``."""
        return int(self._fs.info(self._path(name))["size"])

    def list_files(self, prefix: str = "") -> Names:
        """List every file below ``prefix``, at any depth, sorted; unfinished ones are left out."""
        return sorted(self._find(prefix, detail=False))

    def file_sizes(self, prefix: str = "") -> dict[str, int]:
        """Return the length in bytes of every file that ``list_files`` lists."""
        infos = self._find(prefix, detail=True)
        return {name: int(infos[name]["size"]) for name in sorted(infos)}

    def _find(self, prefix: str, *, detail: bool) -> dict[str, Any]:
        base = self._target[1].rstrip("/") + "/"
        try:
            if self.is_local:
                infos = {path: {"size": size} for path, size in _local_files(self._path(prefix))}
            else:
                infos = self._fs.find(self._path(prefix), detail=detail)
        except FileNotFoundError:
            return {}
        # Some object stores list an emptied folder as if it were a file of its own name.
        names = {str(path).removeprefix(base): path for path in infos if str(path).startswith(base)}
        return {
            name: infos[path] if detail else None
            for name, path in names.items()
            if not PurePosixPath(name).name.startswith(".tmp-")
        }

    def list_folders(self, prefix: str = "") -> Names:
        """List the names of the folders directly below ``prefix``, sorted."""
        try:
            entries = self._fs.ls(self._path(prefix), detail=True)
        except FileNotFoundError:
            return []
        return sorted(
            PurePosixPath(str(item["name"]).rstrip("/")).name
            for item in entries
            if item["type"] == "directory" or (item.get("islink") and Path(item["name"]).is_dir())
        )

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """Read a file, or its bytes from ``start`` to ``end``. Raises ``FileNotFoundError``."""
        return cast("bytes", self._fs.cat_file(self._path(name), start=start, end=end))

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a file for reading, seekable. Raises ``FileNotFoundError``."""
        with self._fs.open(self._path(name), "rb") as file:
            yield file

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Write a whole file atomically; an existing one is replaced."""
        if not self.is_local:
            self._fs.pipe_file(self._path(name), data)
            return
        with self.create(name, durable=durable) as file:
            file.write(data)

    def fsync(self, name: str) -> None:
        """Flush a local file to the disk, so that it survives a power failure."""
        if self.is_local:
            with Path(self._path(name)).open("rb") as file:
                os.fsync(file.fileno())

    @contextmanager
    def create(self, name: str, *, durable: bool = True) -> Iterator[BinaryIO]:
        """Open a file for writing that appears when the block ends without an error.

        Args:
            name: of the file.
            durable: whether it must survive a power failure. Otherwise it is flushed later
                (`fsync`), or its digest is checked before it is used, or it is in a folder that is
                named after ``infra.compute.processes.boot_id`` and not used after a restart.
        """
        target = Path(self._path(name)) if self.is_local else None
        folder = target.parent if target else Path(tempfile.gettempdir())
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".tmp-{uuid.uuid4().hex}"
        try:
            with draft.open("wb") as file:
                yield file
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            if target:
                draft.replace(target)
            else:
                self._fs.put_file(str(draft), self._path(name))
        finally:
            draft.unlink(missing_ok=True)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Write a file only if none of this name exists: the commit of a race.

        Returns:
            True if the file now has these bytes, from this or another writer; False if another
            writer was first with different bytes. Nothing is overwritten.
        """
        if self.is_local:
            return self._link_if_absent(name, data) or self.read(name) == data
        for _ in range(_MAX_ATTEMPTS):
            try:
                self._fs.pipe_file(self._path(name), data, mode="create")
                return True
            except (FileExistsError, OSError) as error:
                outcome = _precondition_status(error)
                if outcome == _CONFLICT:
                    continue  # two concurrent puts; the store requires a retry
                if outcome is None:
                    raise
                # A retry of a put that had succeeded is refused as well: compare the bytes.
                return self.read(name) == data
        raise StorageError(f"{self.url}/{name}: still in conflict after {_MAX_ATTEMPTS} attempts")

    def _link_if_absent(self, name: str, data: bytes) -> bool:
        target = Path(self._path(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.parent / f".tmp-{uuid.uuid4().hex}"
        try:
            with draft.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, target)
        except FileExistsError:
            return False
        finally:
            draft.unlink(missing_ok=True)
        return True

    def upload(self, path: Path, name: str) -> None:
        """Upload a file of this machine atomically; to a remote store without a copy on this disk."""
        if not self.is_local:
            self._fs.put_file(str(path), self._path(name))
            return
        with path.open("rb") as source, self.create(name) as target:
            shutil.copyfileobj(source, target, 1 << 20)

    def download(self, name: str, path: Path) -> None:
        """Download a file to this machine atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.parent / f".tmp-{uuid.uuid4().hex}"
        try:
            with self.open(name) as source, draft.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Remove a file; a missing one is not an error."""
        with suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    def remove_tree(self) -> None:
        """Remove this folder with all its files; files that are being written meanwhile may stay."""
        local = self.local_path()
        if local is not None and local.is_symlink():  # moved to another disk and linked back
            Storage(str(local.resolve())).remove_tree()
            local.unlink()
            return
        for _ in range(_MAX_ATTEMPTS):
            try:
                self._fs.rm(self._target[1], recursive=True)
            except FileNotFoundError as error:
                if error.filename in (None, self._target[1]):
                    return
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            else:
                return


def to_utf8(name: str) -> str:
    """Return a file's name with ``U+FFFD`` for bytes that are not UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _local_files(folder: str) -> Iterator[tuple[str, int]]:
    """Yield the files below a folder with their sizes; links to folders are followed.

    Users move data sets to another disk and link them back. fsspec takes such a link for a file.
    """
    for path, folders, names in os.walk(folder, followlinks=True):
        links = [name for name in folders if Path(path, name).is_symlink()]
        for name in links:
            if Path(path).resolve().is_relative_to(Path(path, name).resolve()):
                folders.remove(name)  # a link to a folder that it lies in: it has no end
        for name in names:
            with suppress(FileNotFoundError):  # deleted meanwhile, or a link to what was deleted
                yield f"{path.rstrip('/')}/{name}", Path(path, name).stat().st_size


def open_filesystem(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """Return a URL's file system and the path in it. Raises ``StorageError``."""
    if not is_remote(url):
        return fsspec.filesystem("file", **options), absolute_path(url)
    for protocol in _UNSAFE_PROTOCOLS:
        if url.startswith((f"{protocol}:", f"{protocol}::")) or f"::{protocol}:" in url:
            raise StorageError(
                f"{url!r} cannot be used: {protocol}:// can run code from its server"
            )
    # A cached listing would hide what another process has just committed.
    extra: dict[str, Any] = {"use_listings_cache": False, **options}
    try:
        if "::" not in url or _is_chained(url):
            filesystem, path = fsspec.core.url_to_fs(url, **extra)
            return filesystem, str(path)
        kind = fsspec.get_filesystem_class(url.partition("://")[0])
        return kind(**{**kind._get_kwargs_from_urls(url), **extra}), str(kind._strip_protocol(url))
    except (ValueError, ImportError) as error:
        raise StorageError(f"storage {url!r} cannot be used: {error}") from error


def _is_chained(url: str) -> bool:
    """Whether ``::`` joins file systems (``zip://a::s3://b``), and is not a part of a name."""
    return "://" in url.rpartition("::")[2] or url.partition("://")[0].startswith(_WRAPPERS)


def is_remote(url: str) -> bool:
    """Whether a URL names another file system than this machine's."""
    return "://" in url and not url.startswith(("file://", "local://"))


def absolute_path(url: str) -> str:
    """Return the absolute path of a local path or ``file://`` URL."""
    plain = url.removeprefix("file://").removeprefix("local://")
    return str(Path(plain).expanduser().absolute())


def _precondition_status(error: BaseException) -> int | None:
    """Return the HTTP status of a refused conditional put; ``None`` for any other error.

    Servers differ: some make s3fs raise ``FileExistsError``, others an ``OSError`` (EINVAL) whose
    cause holds the status.
    """
    if isinstance(error, FileExistsError):
        return _PRECONDITION_FAILED
    for cause in (error, error.__cause__, error.__context__):
        response = getattr(cause, "response", None)
        if isinstance(response, Mapping):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status in (_PRECONDITION_FAILED, _CONFLICT):
                return int(status)
    if isinstance(error, OSError) and error.errno == errno.EEXIST:
        return _PRECONDITION_FAILED
    return None
