"""Blocks of remote files as files of this machine: read when asked for or ahead, bounded in all.

Any number of processes of a machine share the folder. A block is fetched once, by whoever holds its
lock, and appears whole. What nobody has announced a need for goes first when room is needed, the
longest unused before the others. A mapped block that goes stays readable to who has it mapped.
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

BLOCK_BYTES = 2 << 20  # large enough that a store's latency hides, small beside a pool
CACHE_BYTES = 4 << 30
TIMEOUT_S = 300.0  # seconds to go on asking a store that fails
TEMP_MAX_AGE_S = 3600.0  # seconds after which an unfinished file is nobody's any more


@dataclass(frozen=True)
class Block:
    """A range of bytes of a file that never changes.

    Attributes:
        storage: where the file lies.
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
        """The block's name in the cache; the store's address is no part of it."""
        return f"{self.content}-{self.start}-{self.end}"


class BlockCache:
    """A folder of blocks."""

    def __init__(
        self, folder: Path, max_bytes: int = CACHE_BYTES, timeout_s: float = TIMEOUT_S
    ) -> None:
        """A cache that holds at most about ``max_bytes`` bytes.

        Args:
            folder: shared by all processes of a machine that read the same data.
            max_bytes: bytes; exceeded only as far as announced needs ask for more.
            timeout_s: seconds to go on trying when the store fails.
        """
        self.folder, self.max_bytes, self._timeout_s = folder, max_bytes, timeout_s
        self._pinned: AbstractSet[str] = frozenset()

    def pin(self, cache_names: AbstractSet[str]) -> None:
        """Announce which blocks (``Block.cache_name``) are going to be used: these stay."""
        self._pinned = cache_names

    def has(self, block: Block) -> bool:
        """Whether the block is there."""
        return (self.folder / block.cache_name).exists()

    def get(self, block: Block) -> Path:
        """The block's file, fetched if it is not there.

        Raises:
            StorageError: if the store does not give these bytes for as long as patience lasts.
        """
        path = self.folder / block.cache_name
        with suppress(FileNotFoundError):
            os.utime(path)
            return path
        self.fetch(block)
        return path

    def fetch(self, block: Block, *, wait: bool = True) -> bool:
        """Bring a block here.

        Args:
            block: which.
            wait: if another process is fetching it, until it is done; otherwise leave it.

        Returns:
            Whether it is there now.
        """
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
        """The block's bytes, asked for again while the store fails."""
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
        """Remove blocks until ``n_bytes`` more bytes fit, as far as blocks are not needed."""
        found = []
        for entry in os.scandir(self.folder):
            with suppress(FileNotFoundError):
                about = entry.stat()
                if not entry.name.startswith("."):
                    found.append((about.st_mtime_ns, entry.name, about.st_size))
                elif time.time() - about.st_mtime > TEMP_MAX_AGE_S:
                    Path(entry.path).unlink()
        excess = sum(bytes_ for _, _, bytes_ in found) + n_bytes - self.max_bytes
        for _, name, bytes_ in sorted(found):
            if excess <= 0:
                return
            if name not in self._pinned:
                (self.folder / name).unlink(missing_ok=True)
                excess -= bytes_

    @contextmanager
    def _lock(self, path: Path, *, wait: bool) -> Iterator[bool]:
        """Hold the block's lock; yields whether it could be had.

        The lock's file goes with whoever held it. Somebody who waited for it may then fetch beside
        a newcomer, which costs a read and nothing else: blocks are put in place whole.
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
