"""Files of users, outside of the store: list and open them, at any fsspec URL."""

import glob
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from infra.store.retry import is_storage_error, retry
from infra.store.storage import StorageError, absolute_path, is_remote, open_filesystem

READ_TIMEOUT_S = 10.0
MIN_STAMP_AGE_NS = 2_000_000_000  # the coarsest clock of a file system in use (FAT): two seconds


def expand_globs(
    patterns: Sequence[str], options: Mapping[str, Any] | None = None
) -> dict[str, str | None]:
    """List the files that a user's paths and globs match, each once, sorted by base name, then path.

    Returns:
        URL -> stamp. A file whose stamp is the same still has the same bytes. ``None``: the store has
        no ETag for it, or it was changed so recently that its times could stay the same if it were
        changed again.

    Raises:
        StorageError: if a pattern matches nothing, named.
    """
    stamps: dict[str, str | None] = {}
    for pattern in patterns:
        if is_remote(pattern):
            filesystem, path = open_filesystem(pattern, options or {})
            infos = filesystem.glob(path, detail=True)
            names = {
                filesystem.unstrip_protocol(name): _remote_stamp(info)
                for name, info in infos.items()
            }
        else:
            names = {
                name: _local_stamp(Path(name).stat())
                for name in glob.glob(absolute_path(pattern), recursive=True)  # noqa: PTH207 - absolute patterns
                if Path(name).is_file()
            }
        if not names:
            raise StorageError(f"no file matches {pattern!r}")
        stamps |= names
    return dict(sorted(stamps.items(), key=lambda item: (PurePosixPath(item[0]).name, item[0])))


def _local_stamp(stat: os.stat_result) -> str | None:
    # A tool may set the time of modification back; the time of the inode's change it cannot set.
    if time.time_ns() - stat.st_ctime_ns < MIN_STAMP_AGE_NS:
        return None
    return f"{stat.st_size}-{stat.st_mtime_ns}-{stat.st_ctime_ns}-{stat.st_ino}"


def _remote_stamp(info: Mapping[str, Any]) -> str | None:
    tag = str(info.get("ETag") or info.get("etag") or info.get("md5Hash") or "")
    # A weak tag of an HTTP server stands for equivalent content, not for equal bytes.
    return f"{info.get('size')}-{tag}" if tag and not tag.startswith("W/") else None


@contextmanager
def open_url(url: str, options: Mapping[str, Any] | None = None) -> Iterator[BinaryIO]:
    """Open a user's file for reading, seekable. Raises ``FileNotFoundError``."""
    filesystem, path = open_filesystem(url, options or {})
    with filesystem.open(path, "rb") as file:
        yield file


def read_url(url: str) -> bytes:
    """Read a file of a user whole; a host that does not answer is asked again for ten seconds.

    Raises:
        StorageError: if there is no such file, or it cannot be read; the message names it.
    """

    def read() -> bytes:
        with open_url(url) as file:
            return file.read()

    try:
        return retry(f"reading {url!r}", read, READ_TIMEOUT_S)
    except FileNotFoundError:
        raise StorageError(f"file not found: {url!r}") from None
    except Exception as error:
        if not isinstance(error, OSError | StorageError) and not is_storage_error(error):
            raise
        raise StorageError(f"{url!r} cannot be read: {error}") from None
