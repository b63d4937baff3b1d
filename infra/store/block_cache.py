"""A local cache of blocks of remote files, of bounded size, filled on demand or ahead.

All processes of a machine share the folder. A block is fetched once, by the process that holds its
lock, and appears whole. If space is needed, the least recently used blocks that are not pinned are
removed first. A process that has mapped a removed block can still read it.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from infra.store.cache_dir import write_atomic
from infra.store.retry import retry
from infra.store.storage import Storage, StorageError

BLOCK_BYTES = 2 << 20  # large enough to hide a store's latency, small beside the cache
CACHE_BYTES = 4 << 30
TIMEOUT_S = 300.0  # seconds for which a read is retried
TEMP_MAX_AGE_S = 3600.0  # seconds after which an unfinished file is left over from a crash


@dataclass(frozen=True)
class Block:
    """A range of bytes of an immutable file.

    Attributes:
        storage: the folder of the file.
        name: of the file.
        content: digest of the file.
        start: first byte.
        end: one past the last.
    """

    storage: Storage
    name: str
    content: str
    start: int
    end: int

    @property
    def cache_name(self) -> str:
        """The block's name in the cache; it does not depend on the store's address."""
        return f"{self.content}-{self.start}-{self.end}"


class BlockCache:
    """A folder of blocks."""

    def __init__(
        self, folder: Path, max_bytes: int = CACHE_BYTES, timeout_s: float = TIMEOUT_S
    ) -> None:
        """Make a cache of about ``max_bytes`` bytes; only pinned blocks can exceed that.

        All processes of a machine that read the same data share the folder. A failed read is
        retried for ``timeout_s`` seconds.
        """
        self.folder, self.max_bytes, self._timeout_s = folder, max_bytes, timeout_s
        self._pinned: AbstractSet[str] = frozenset()

    def pin(self, cache_names: AbstractSet[str]) -> None:
        """Replace the set of blocks (``Block.cache_name``) that are not removed."""
        self._pinned = cache_names

    def has(self, block: Block) -> bool:
        """Return whether the block is in the cache."""
        return (self.folder / block.cache_name).exists()

    def get(self, block: Block) -> Path:
        """Return the block's file; fetch it if it is missing.

        Raises:
            StorageError: if the store does not return these bytes within the timeout.
        """
        path = self.folder / block.cache_name
        with suppress(FileNotFoundError):
            os.utime(path)
            return path
        self.fetch(block)
        return path

    def fetch(self, block: Block, *, wait: bool = True) -> bool:
        """Fetch a block, or wait for another process that is fetching it; return whether it is cached."""
        path = self.folder / block.cache_name
        with self._lock(path, wait=wait) as locked:
            if path.exists():
                return True
            if not locked:
                return False
            data = self._read(block)
            self._evict(len(data))
            write_atomic(path, lambda out: out.write(data))
        return True

    def _read(self, block: Block) -> bytes:
        """Read the block's bytes; retry while the store fails."""
        where = f"{block.storage.url}/{block.name}"
        read = partial(block.storage.read, block.name, block.start, block.end)
        try:
            data = retry(f"reading {where}", read, self._timeout_s)
        except FileNotFoundError:
            raise StorageError(f"{where}: no such file") from None
        if len(data) != block.end - block.start:
            raise StorageError(
                f"{where}: {len(data)} bytes from {block.start} on, "
                f"{block.end - block.start} were expected"
            )
        return data

    def _evict(self, n_bytes: int) -> None:
        """Remove blocks that are not pinned until ``n_bytes`` more bytes fit."""
        blocks = []
        for entry in os.scandir(self.folder):
            with suppress(FileNotFoundError):
                stat = entry.stat()
                if not entry.name.startswith("."):
                    blocks.append((stat.st_mtime_ns, entry.name, stat.st_size))
                elif time.time() - stat.st_mtime > TEMP_MAX_AGE_S:
                    Path(entry.path).unlink()
        excess = sum(bytes_ for _, _, bytes_ in blocks) + n_bytes - self.max_bytes
        for _, name, bytes_ in sorted(blocks):
            if excess <= 0:
                return
            if name not in self._pinned:
                (self.folder / name).unlink(missing_ok=True)
                excess -= bytes_

    @contextmanager
    def _lock(self, path: Path, *, wait: bool) -> Iterator[bool]:
        """Hold the block's lock; yield whether it was acquired.

        The lock's file is removed on release. A process that was waiting for it may then fetch the
        block at the same time as a new one. That costs a read and nothing else: blocks are written
        atomically.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        name = path.with_name(f".{path.name}.lock")
        with name.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            try:
                yield True
            finally:
                name.unlink(missing_ok=True)
