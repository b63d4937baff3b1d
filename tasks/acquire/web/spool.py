"""The responses of a crawl on this machine's disk: a crash loses only the requests in flight."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from infra.formats import warc
from infra.store.cache_dir import cache_root
from infra.store.file_lock import file_lock

_ROBOTS_PREFIX = "robots:"
CRAWL_LOG = "crawl.log"


def spool_root() -> Path:
    """The folder of the crawls in progress."""
    return cache_root() / "spool"


class Spool:
    """An append-only WARC of responses, failures and robots.txt files, and the final verdicts.

    Every record is written and flushed as one; a record that a crash truncated is removed when the
    spool is opened again.

    Args:
        folder: the crawl's own folder; created if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        # The offset of the response of each URL.
        self.offsets: dict[str, int] = {}
        # URLs without a response, with the reason and its evidence.
        self.failures: dict[str, dict[str, Any]] = {}
        # Status and body of each origin's robots.txt; no status: unreachable.
        self.robots: dict[str, tuple[int | None, bytes]] = {}
        self._warc_path = folder / "spool.warc.gz"
        self._verdicts_path = folder / "verdicts.jsonl"
        self._writer: BinaryIO | None = None
        self._reader: BinaryIO | None = None
        self._load()

    def _load(self) -> None:
        if not self._warc_path.exists():
            return
        end: int | None = None
        with self._warc_path.open("rb") as stream:
            try:
                for offset, capture in warc.iter_captures(stream):
                    self._index(offset, capture)
            except warc.WarcReadError as error:
                end = error.offset
        if end is not None:
            self._discard_from(end)
            os.truncate(self._warc_path, end)

    def _index(self, offset: int, capture: warc.Capture) -> None:
        if capture.kind == "response":
            self.offsets[capture.url] = offset
            return
        body = json.loads(capture.payload)
        if capture.url.startswith(_ROBOTS_PREFIX):
            text = body["body"].encode("latin-1")
            self.robots[capture.url.removeprefix(_ROBOTS_PREFIX)] = body["status"], text
        else:
            self.failures[capture.url] = body

    def _discard_from(self, end: int) -> None:
        for url in [url for url, offset in self.offsets.items() if offset >= end]:
            del self.offsets[url]

    def __contains__(self, url: str) -> bool:
        """Whether a URL has been requested already."""
        return url in self.offsets or url in self.failures

    def __len__(self) -> int:
        """The number of URLs requested so far."""
        return len(self.offsets) + len(self.failures)

    def _append(self, record: bytes) -> int:
        if self._writer is None:
            self._writer = self._warc_path.open("ab")
        offset = self._writer.tell()
        self._writer.write(record)
        self._writer.flush()
        return offset

    def add(self, capture: warc.Capture) -> None:
        """Store a response."""
        self.offsets[capture.url] = self._append(warc.response_record(capture))

    def add_failure(self, url: str, reason: str, evidence: dict[str, Any]) -> None:
        """Store the fact that a URL gave no response."""
        body = {"reason": reason, "evidence": evidence}
        self._append(warc.metadata_record(url, warc.current_warc_date(), json.dumps(body).encode()))
        self.failures[url] = body

    def add_robots(self, origin: str, status: int | None, body: bytes) -> None:
        """Store the response to an origin's robots.txt."""
        text = json.dumps({"status": status, "body": body.decode("latin-1")}).encode()
        self._append(warc.metadata_record(_ROBOTS_PREFIX + origin, warc.current_warc_date(), text))
        self.robots[origin] = status, body

    def read_capture(self, url: str) -> warc.Capture:
        """The response of a URL. Raises ``KeyError`` if there is none."""
        if self._reader is None:
            self._reader = self._warc_path.open("rb")
        return warc.read_capture(self._reader, self.offsets[url])

    def write_verdicts(self, rows: Iterator[dict[str, Any]]) -> None:
        """Write the verdicts on all URLs atomically: the crawl is then complete."""
        temporary = self._verdicts_path.with_suffix(".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._verdicts_path)

    def read_verdicts(self) -> list[dict[str, Any]] | None:
        """The verdicts of a complete crawl, in order; ``None`` if it is not complete."""
        if not self._verdicts_path.exists():
            return None
        with self._verdicts_path.open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def close(self) -> None:
        """Close the files; everything written stays."""
        for file in (self._writer, self._reader):
            if file is not None:
                file.close()
        self._writer = self._reader = None


@contextmanager
def own_spool(folder: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Keep a crawl's folder from all other runs of this machine, and remove it at the end.

    It stays if the end is an exception, for the next run. ``on_wait`` is called if another run has it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(folder.with_name(f"{folder.name}.lock"), on_wait):
        folder.mkdir(exist_ok=True)
        yield
        shutil.rmtree(folder, ignore_errors=True)
