"""The files of a source: listed, identified by content, and checked not to change meanwhile."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import xxhash

from infra.dataset.code_version import code_digest
from infra.dataset.fingerprint import json_sha256
from infra.errors import UserError
from infra.formats.jsonl import LineRangeSplitter
from infra.store.cache_dir import cache_root, write_atomic
from infra.store.environment import mask
from infra.store.external_files import expand_globs, open_url
from infra.store.storage import to_utf8

DIGEST_FOLDER = "inputs"  # of cached digests, below the cache root
BLOCK_BYTES = 1 << 20  # bytes read from a file at a time
DIGEST_THREADS = 8  # files read at a time for their digests: hashing and remote reads overlap


class InputChangedError(UserError):
    """A file that has other bytes than when its digest was made."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} was changed while it was being read; run again")
        self.name = name

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return type(self), (self.name,)


@dataclass(frozen=True)
class InputFile:
    """A file, or a range of it, as a worker gets it."""

    url: str  # where it is; not part of anything that is written
    name: str  # its base name, which evidence and addresses quote
    digest: str  # SHA-256 of the whole file
    size: int  # bytes of the whole file
    start: int  # the first byte of the range
    end: int  # the byte after its last
    checksum: str  # xxh3 of the range's bytes, with which a worker checks that they are the same
    first_line: int = 1  # number of the range's first line
    is_whole: bool = True  # whether the range is the file
    options: Mapping[str, Any] = field(default_factory=dict)  # arguments of the file system

    def chunks(self) -> Iterator[bytes]:
        """Iterate over the range's bytes, block by block.

        Raises:
            InputChangedError: after the last block, if the bytes are not those of the digest.
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
            raise InputChangedError(self.name)

    def read(self, max_bytes: int) -> bytes | None:
        """Read the range; ``None`` if it has more than `max_bytes`. Raises the errors of `chunks`."""
        if self.end - self.start > max_bytes:
            return None
        return b"".join(self.chunks())

    def segment(self, source: str) -> str:
        """Return the segment of the documents of this file."""
        return f"{source}-{self.digest[:12]}"


# Makes, from a file's name and first bytes, what decides where to cut it; ``None``: nowhere.
SplitterFactory = Callable[[str, bytes], LineRangeSplitter | None]


@dataclass(frozen=True)
class FileDigest:
    """What reading a whole file gave."""

    stamp: str | None  # when it was listed (``infra.store.external_files.expand_globs``)
    sha256: str
    size: int
    ranges: tuple[tuple[int, int, int, str], ...]  # as ``LineRangeSplitter.ranges``


class DigestCache:
    """Digests of a source's files by URL, on this machine, valid while a file's stamp is the same.

    What a URL has from ``${NAME}`` is not written down.
    """

    def __init__(self, paths: Sequence[str], make_splitter: SplitterFactory | None) -> None:
        # The code decides where a file is cut.
        modules = [__name__, *([make_splitter.__module__] if make_splitter else [])]
        name = json_sha256([sorted(mask(paths)), code_digest(modules, ())])
        self._path = cache_root() / DIGEST_FOLDER / f"{name[:32]}.json"

    def load(self) -> dict[str, FileDigest]:
        """The digests by masked URL; none if they cannot be read."""
        try:
            value = json.loads(self._path.read_bytes())
            os.utime(self._path)  # `gristmill gc` removes files that were not used for 30 days
            return {
                url: FileDigest(stamp, sha256, size, tuple(tuple(item) for item in ranges))
                for url, (stamp, sha256, size, ranges) in value.items()
            }
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def save(self, digests: Mapping[str, FileDigest]) -> None:
        """Replace the digests. A folder that cannot be written to costs time only."""
        data = json.dumps({url: astuple(digest) for url, digest in digests.items()}).encode()
        with suppress(OSError):
            write_atomic(self._path, lambda out: out.write(data))


def forget_digests() -> None:
    """Remove all cached digests: a file has changed although its stamp has not."""
    shutil.rmtree(cache_root() / DIGEST_FOLDER, ignore_errors=True)


def list_files(
    paths: Sequence[str],
    options: Mapping[str, Any] | None = None,
    make_splitter: SplitterFactory | None = None,
) -> list[InputFile]:
    """List the files that paths, globs and URLs match, by name, then digest.

    A file is identified by its content. Its bytes are read for a digest once, and again only if its
    size, times or ETag have changed since. A file that its splitter cuts is several in a row.

    Raises:
        UserError: if a pattern matches nothing or a file cannot be read.
    """
    stamps = expand_globs(paths, options)
    cache = DigestCache(paths, make_splitter)
    known = cache.load()

    def read_file(url: str) -> FileDigest:
        cached = known.get(mask(url))
        if cached is not None and cached.stamp is not None and cached.stamp == stamps[url]:
            return cached
        return _digest_file(url, stamps[url], options or {}, make_splitter)

    with ThreadPoolExecutor(DIGEST_THREADS) as pool:
        digests = dict(zip(stamps, pool.map(read_file, stamps), strict=True))
    masked = {mask(url): digest for url, digest in digests.items()}
    if masked != known:
        cache.save(masked)
    files = sorted(digests.items(), key=lambda item: (base_name(item[0]), item[1].sha256))
    return [
        InputFile(
            url=url,
            name=base_name(url),
            digest=file.sha256,
            size=file.size,
            start=start,
            end=end,
            checksum=checksum,
            first_line=line,
            is_whole=len(file.ranges) == 1,
            options=options or {},
        )
        for url, file in files
        for start, end, line, checksum in file.ranges
    ]


def _digest_file(
    url: str,
    stamp: str | None,
    options: Mapping[str, Any],
    make_splitter: SplitterFactory | None,
) -> FileDigest:
    sha, check = hashlib.sha256(), xxhash.xxh3_128()
    size = 0
    splitter: LineRangeSplitter | None = None
    try:
        with open_url(url, options) as stream:
            while chunk := stream.read(BLOCK_BYTES):
                if size == 0 and make_splitter:
                    splitter = make_splitter(base_name(url), chunk[:8])
                size += len(chunk)
                sha.update(chunk)
                check.update(chunk)
                if splitter:
                    splitter.update(chunk)
    except OSError as error:
        raise UserError(f"{to_utf8(url)} cannot be read: {error.strerror or error}") from None
    ranges = splitter.ranges() if splitter else []
    if len(ranges) < 2:
        ranges = [(0, size, 1, check.hexdigest())]
    return FileDigest(stamp, sha.hexdigest(), size, tuple(ranges))


def base_name(url: str) -> str:
    """Return the file's own name, without folders, host or query, as valid Unicode."""
    if "://" not in url:
        return to_utf8(PurePosixPath(url).name)
    return PurePosixPath(unquote(urlsplit(url).path)).name or url.rpartition("/")[2]
