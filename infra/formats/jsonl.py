"""JSON lines: split from a stream and parsed; invalid lines have a reason and a message."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import xxhash

from infra.formats.decompress import CorruptStreamError

BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class OversizeLine:
    """A line over the limit, which is never in memory as a whole."""

    digest: str  # its SHA-256
    size: int  # its bytes


Line = bytes | OversizeLine


class InvalidRowError(Exception):
    """A line that is not a JSON object.

    Attributes:
        reason: ``bad_utf8``, ``bad_json`` or ``bad_row``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def split_lines(chunks: Iterator[bytes], max_line_bytes: int) -> Iterator[list[Line]]:
    """Split a stream at line feeds, a list of lines at a time, with bounded memory.

    A line of more than `max_line_bytes` is yielded as an ``OversizeLine``.

    Raises:
        CorruptStreamError: as the stream does; its `rest` is the line in which the stream ends.
    """
    line = _LineBuffer(max_line_bytes)
    try:
        for chunk in chunks:
            first = chunk.find(b"\n")
            if first < 0:
                line.add(chunk)
                continue
            line.add(chunk[:first])
            lines: list[Line] = [line.flush()]
            between = chunk[first + 1 :].split(b"\n")
            line.add(between.pop())
            lines.extend(
                item if len(item) <= max_line_bytes else OversizeLine(_sha256_hex(item), len(item))
                for item in between
            )
            yield lines
    except CorruptStreamError as damage:
        rest = line.flush()
        damage.rest = rest if isinstance(rest, bytes) else b""
        raise
    if line.size:
        yield [line.flush()]


class _LineBuffer:
    """The beginning of a line whose end has not been read."""

    def __init__(self, max_line_bytes: int) -> None:
        self._max_line_bytes = max_line_bytes
        self._reset()

    def _reset(self) -> None:
        self.size = 0
        self._parts: list[bytes] = []
        self._hasher: hashlib._Hash | None = None

    def add(self, data: bytes) -> None:
        self.size += len(data)
        if self._hasher is None:
            self._parts.append(data)
            if self.size > self._max_line_bytes:
                self._hasher = hashlib.sha256(b"".join(self._parts))
                self._parts.clear()
        else:
            self._hasher.update(data)

    def flush(self) -> Line:
        line: Line = (
            b"".join(self._parts)
            if self._hasher is None
            else OversizeLine(self._hasher.hexdigest(), self.size)
        )
        self._reset()
        return line


def _sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def parse_line(line: bytes) -> dict[str, Any]:
    """A line as an object.

    orjson parses it. Python's own parser accepts more: it allows NaN, which
    Python's writers emit, and lone surrogates, which may be in a column that is not used.

    Raises:
        InvalidRowError: if it is not UTF-8, not JSON, or JSON of another kind.
    """
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        value = _parse_with_stdlib(line, error)
    if not isinstance(value, dict):
        raise InvalidRowError(
            "bad_row", f"a JSON {_JSON_TYPE_NAMES.get(type(value), 'value')}, not an object"
        )
    return value


_JSON_TYPE_NAMES = {list: "array", str: "string", int: "number", float: "number", bool: "boolean"}


def _parse_with_stdlib(line: bytes, orjson_error: orjson.JSONDecodeError) -> object:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise InvalidRowError(
            "bad_utf8", f"{error.reason} at byte {error.start} of the line"
        ) from None
    if orjson_error.msg.startswith("depth limit"):  # Python's own depends on its caller's depth
        raise InvalidRowError("bad_json", "nested too deeply") from None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidRowError("bad_json", f"{error.msg} at column {error.colno}") from None
    except RecursionError:
        raise InvalidRowError("bad_json", "nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits
        raise InvalidRowError("bad_json", str(error)) from None


class LineRangeSplitter:
    """Split a file at line breaks into ranges of at least `min_bytes` while its bytes are read."""

    def __init__(self, min_bytes: int) -> None:
        self._min_bytes = min_bytes
        self._offset = 0  # bytes before the chunk
        self._start, self._first_line = 0, 1
        self._next_line = 1  # number of the line that the next byte belongs to
        self._hasher = xxhash.xxh3_128()
        self._ranges: list[tuple[int, int, int, str]] = []

    def update(self, chunk: bytes) -> None:
        """Process the next block of the file."""
        done = 0
        while True:
            due = self._start + self._min_bytes - self._offset
            cut = chunk.find(b"\n", max(done, due - 1)) + 1 if due <= len(chunk) else 0
            if not cut:
                break
            self._consume(chunk[done:cut])
            self._end_range(self._offset + cut)
            done = cut
        self._consume(chunk[done:])
        self._offset += len(chunk)

    def _consume(self, data: bytes) -> None:
        self._hasher.update(data)
        self._next_line += data.count(b"\n")

    def _end_range(self, end: int) -> None:
        self._ranges.append((self._start, end, self._first_line, self._hasher.hexdigest()))
        self._start, self._first_line = end, self._next_line
        self._hasher = xxhash.xxh3_128()

    def ranges(self) -> list[tuple[int, int, int, str]]:
        """Ranges as (start, end, number of the first line, xxh3 of the bytes)."""
        last = [(self._start, self._offset, self._first_line, self._hasher.hexdigest())]
        return self._ranges + (last if self._offset > self._start else [])
