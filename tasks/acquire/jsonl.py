"""Lines of JSON: cut from a stream, parsed fast, and told what is wrong with those that are not."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import xxhash

from tasks.acquire.decompress import Damaged

BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class LongLine:
    """A line over the limit, which is never held in memory.

    Attributes:
        digest: SHA-256 of it.
        size: its bytes.
    """

    digest: str
    size: int


Line = bytes | LongLine


class BadRow(Exception):
    """A line that is no JSON object.

    Attributes:
        reason: ``bad_utf8``, ``bad_json`` or ``bad_row``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def split_lines(chunks: Iterator[bytes], limit: int) -> Iterator[list[Line]]:
    """Cut a stream at line feeds, a list of lines at a time; at most `limit` bytes are held back.

    Args:
        chunks: the stream.
        limit: bytes; a longer line comes as a ``LongLine``.

    Raises:
        Damaged: as the stream does; `rest` then holds the line it broke off in.
    """
    line = _Pending(limit)
    try:
        for chunk in chunks:
            first = chunk.find(b"\n")
            if first < 0:
                line.add(chunk)
                continue
            line.add(chunk[:first])
            lines: list[Line] = [line.take()]
            between = chunk[first + 1 :].split(b"\n")
            line.add(between.pop())
            lines.extend(
                item if len(item) <= limit else LongLine(_sha(item), len(item)) for item in between
            )
            yield lines
    except Damaged as damage:
        rest = line.take()
        damage.rest = rest if isinstance(rest, bytes) else b""
        raise
    if line.size:
        yield [line.take()]


class _Pending:
    """The beginning of a line whose end has not come yet."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._reset()

    def _reset(self) -> None:
        self.size = 0
        self._parts: list[bytes] = []
        self._hasher: hashlib._Hash | None = None

    def add(self, data: bytes) -> None:
        self.size += len(data)
        if self._hasher is None:
            self._parts.append(data)
            if self.size > self._limit:
                self._hasher = hashlib.sha256(b"".join(self._parts))
                self._parts.clear()
        else:
            self._hasher.update(data)

    def take(self) -> Line:
        line: Line = (
            b"".join(self._parts)
            if self._hasher is None
            else LongLine(self._hasher.hexdigest(), self.size)
        )
        self._reset()
        return line


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def parse(line: bytes) -> dict[str, Any]:
    """A line as an object.

    orjson reads it; what orjson refuses, Python's own parser may still take: it allows NaN, which
    Python's writers emit, and lone surrogates, which may stand in a column that nobody wants.

    Raises:
        BadRow: if it is not UTF-8, not JSON, or JSON of another kind.
    """
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        value = _parse_slowly(line, error)
    if not isinstance(value, dict):
        raise BadRow("bad_row", f"a JSON {_KINDS.get(type(value), 'value')}, not an object")
    return value


_KINDS = {list: "array", str: "string", int: "number", float: "number", bool: "boolean"}


def _parse_slowly(line: bytes, first: orjson.JSONDecodeError) -> object:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise BadRow("bad_utf8", f"{error.reason} at byte {error.start} of the line") from None
    if first.msg.startswith("depth limit"):  # Python's own limit depends on its caller's depth
        raise BadRow("bad_json", "nested too deeply") from None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BadRow("bad_json", f"{error.msg} at column {error.colno}") from None
    except RecursionError:
        raise BadRow("bad_json", "nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits
        raise BadRow("bad_json", str(error)) from None


class LineRanges:
    """Watches a file go by and cuts it at line breaks into ranges of about equal size.

    Args:
        size: bytes of a range at least, but for the last.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._seen = 0  # bytes before the chunk
        self._start, self._line = 0, 1
        self._lines = 1  # number of the line that the next byte belongs to
        self._hasher = xxhash.xxh3_128()
        self._found: list[tuple[int, int, int, str]] = []

    def see(self, chunk: bytes) -> None:
        """Take the next block."""
        done = 0
        while True:
            due = self._start + self._size - self._seen
            cut = chunk.find(b"\n", max(done, due - 1)) + 1 if due <= len(chunk) else 0
            if not cut:
                break
            self._take(chunk[done:cut])
            self._close(self._seen + cut)
            done = cut
        self._take(chunk[done:])
        self._seen += len(chunk)

    def _take(self, data: bytes) -> None:
        self._hasher.update(data)
        self._lines += data.count(b"\n")

    def _close(self, end: int) -> None:
        self._found.append((self._start, end, self._line, self._hasher.hexdigest()))
        self._start, self._line = end, self._lines
        self._hasher = xxhash.xxh3_128()

    def ranges(self) -> list[tuple[int, int, int, str]]:
        """Ranges as (start, end, number of the first line, xxh3 of the bytes)."""
        last = [(self._start, self._seen, self._line, self._hasher.hexdigest())]
        return self._found + (last if self._seen > self._start else [])
