"""The files a source names: found, told apart by content, and checked not to change meanwhile."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import xxhash

from infra.errors import UserError
from infra.store.storage import expand_globs, open_url

BLOCK_BYTES = 1 << 20
"""Bytes read from a file at once."""

DIGEST_THREADS = 8
"""Files read at once for their digests: hashing and remote reads run beside each other."""

CHANGED_MESSAGE = "{} was changed while it was being read; run again"


@dataclass(frozen=True)
class InputFile:
    """A file, or a range of it, as a worker gets it.

    Attributes:
        url: where it is; enters nothing that is written.
        name: its base name: what evidence and addresses say of where it is.
        digest: SHA-256 of the whole file.
        size: bytes of the whole file.
        start: the first byte of the range.
        end: the byte after its last.
        checksum: xxh3 of the range's bytes, by which a worker sees that the file is still the same.
        first_line: number of the range's first line, from 1.
        is_whole: whether the range is the file.
        options: arguments of the file system.
    """

    url: str
    name: str
    digest: str
    size: int
    start: int
    end: int
    checksum: str
    first_line: int = 1
    is_whole: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    def chunks(self) -> Iterator[bytes]:
        """The range's bytes, block by block.

        Raises:
            UserError: after the last block, if they are not the bytes that were there at first.
        """
        hasher = xxhash.xxh3_128()
        with open_url(self.url, self.options) as stream:
            stream.seek(self.start)
            left = self.end - self.start
            while left and (chunk := stream.read(min(BLOCK_BYTES, left))):
                left -= len(chunk)
                hasher.update(chunk)
                yield chunk
            grown = self.end == self.size and stream.read(1)
        if left or grown or hasher.hexdigest() != self.checksum:
            raise UserError(CHANGED_MESSAGE.format(self.name))

    def read(self, max_bytes: int) -> bytes | None:
        """All bytes of the range; ``None`` if there are more than `max_bytes`. Raises as `chunks`."""
        if self.end - self.start > max_bytes:
            return None
        return b"".join(self.chunks())

    def segment(self, source: str) -> str:
        """The segment of the documents that come from this file."""
        return f"{source}-{self.digest[:12]}"


class RangeSplitter(Protocol):
    """Sees the bytes of a file once, while its digest is made, and says where to cut it."""

    def update(self, chunk: bytes) -> None:
        """Take the next block."""

    def ranges(self) -> list[tuple[int, int, int, str]]:
        """Ranges as (start, end, number of the first line, xxh3); empty: do not cut."""


def list_files(
    paths: Sequence[str],
    options: Mapping[str, Any] | None = None,
    make_splitter: Callable[[str, bytes], RangeSplitter | None] | None = None,
) -> list[InputFile]:
    """The files that paths and globs name, in an order that their folders have no part in.

    Every byte is read once: a file is known by its content, and nothing else enters a key.

    Args:
        paths: paths, globs or URLs.
        options: arguments of the file system.
        make_splitter: makes a watcher from a file's name and first bytes, or ``None`` to leave it whole.

    Returns:
        Files by name, then digest; a file that its watcher cuts as several in a row.

    Raises:
        UserError: if a pattern matches nothing or a file cannot be read.
    """
    urls = expand_globs(paths, options)
    with ThreadPoolExecutor(DIGEST_THREADS) as pool:
        found = list(pool.map(lambda url: _digest_file(url, options or {}, make_splitter), urls))
    return [piece for pieces in sorted(found, key=_sort_key) for piece in pieces]


def _sort_key(ranges: list[InputFile]) -> tuple[str, str]:
    return ranges[0].name, ranges[0].digest


def _digest_file(
    url: str,
    options: Mapping[str, Any],
    make_splitter: Callable[[str, bytes], RangeSplitter | None] | None,
) -> list[InputFile]:
    name = base_name(url)
    sha, check = hashlib.sha256(), xxhash.xxh3_128()
    size = 0
    watcher: RangeSplitter | None = None
    try:
        with open_url(url, options) as stream:
            while chunk := stream.read(BLOCK_BYTES):
                if size == 0 and make_splitter:
                    watcher = make_splitter(name, chunk[:8])
                size += len(chunk)
                sha.update(chunk)
                check.update(chunk)
                if watcher:
                    watcher.update(chunk)
    except OSError as error:
        message = f"{url} cannot be read: {error.strerror or error}"
        raise UserError(message) from None
    digest = sha.hexdigest()
    ranges = watcher.ranges() if watcher else []
    if len(ranges) < 2:
        ranges = [(0, size, 1, check.hexdigest())]
    return [
        InputFile(url, name, digest, size, start, end, range_check, line, len(ranges) == 1, options)
        for start, end, line, range_check in ranges
    ]


def base_name(url: str) -> str:
    """The file's own name, without folders, host or query."""
    if "://" not in url:
        return PurePosixPath(url).name
    return PurePosixPath(unquote(urlsplit(url).path)).name or url.rpartition("/")[2]
