"""Documents: one per row of JSONL (plain, gzip, zstd) or Parquet files.

Rows that come in are lines that are not blank, or rows of the table. Verdicts: ``bad_utf8``,
``bad_json``, ``bad_row`` (JSON, but no object), ``missing_text`` (absent, null or not a string)
and ``too_large`` are failures of a row; ``empty_text`` drops one without text;
``unreadable_file``, ``empty_file`` (no row at all), ``truncated_file`` and ``corrupt_file`` are
failures of a file, counted once, after the rows before the damage; ``unreadable_rows`` are rows
that a Parquet file's footer counts and its body does not yield.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from infra.dataset.fingerprint import digest, document_id
from infra.dataset.stage import Outcome, Unit
from infra.errors import UserError
from infra.store.storage import open_url
from tasks.acquire import decompress, jsonl, parquet
from tasks.acquire.config import DocumentsSource
from tasks.acquire.document_builder import Rows, iso_date
from tasks.acquire.input_files import CHANGED, InputFile, Watcher, scan

MODULES = ("tasks.acquire.documents",)
LIBRARIES = ("orjson", "pyarrow")

UNIT_BYTES = 64 << 20
"""Plain JSONL is cut into units of this size, Parquet into row groups of this much text."""

OUTCOME_BYTES, OUTCOME_ROWS = 64 << 20, 50_000
"""A part ends when it holds this much text or this many rows."""

BEGINNING = 120
"""Characters of a broken row that are quoted as evidence."""

_OTHERS = {
    b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip", b"\x04\x22\x4d\x18": "lz4",
    b"%PDF": "PDF", b"SQLite f": "SQLite",
}  # fmt: skip


def config(source: DocumentsSource) -> dict[str, Any]:
    """What of the source's settings decides the output, as plain JSON: not the paths."""
    return source.model_dump(mode="json", exclude={"name", "kind", "paths"})


def units(source: DocumentsSource) -> list[Unit]:
    """The pieces of work: files, ranges of large plain files, row groups of Parquet files.

    Reads every file once, for its digest.

    Raises:
        UserError: if a pattern matches nothing or a file cannot be read.
    """
    found: list[Unit] = []
    for file in scan(source.paths, watch=_watch):
        for groups in _row_groups(file, source):
            cut = [groups.start, groups.stop] if groups else [file.start, file.end]
            key = digest({"file": file.digest, "name": file.name, "cut": cut})
            found.append(Unit(key, (file, groups, source)))
    return found


def _watch(name: str, head: bytes) -> Watcher | None:
    plain = decompress.compression(head) is None and not _is_parquet(name, head)
    return jsonl.LineRanges(UNIT_BYTES) if plain else None


def _is_parquet(name: str, head: bytes) -> bool:
    return head.startswith(parquet.MAGIC) or name.endswith(".parquet")


def _row_groups(file: InputFile, source: DocumentsSource) -> list[range | None]:
    if not file.whole:
        return [None]
    with open_url(file.url, file.options) as stream:
        if not _is_parquet(file.name, stream.read(8)):
            return [None]
        stream.seek(0)
        try:
            opened = parquet.open_parquet(stream, source.text_column)
        except parquet.Unreadable:
            return [None]  # the worker says so, as a counted failure
        return list(parquet.plan(opened, source.text_column, UNIT_BYTES, OUTCOME_ROWS)) or [None]


def read_documents(
    file: InputFile, groups: range | None, source: DocumentsSource
) -> Iterator[Outcome]:
    """Read a piece of a source's input.

    Args:
        file: the file, or a range of a plain JSONL file that begins and ends with a line.
        groups: row groups of a Parquet file; ``None`` for JSONL and for a broken Parquet file.
        source: names the columns.

    Yields:
        At least one outcome; a further one for every `OUTCOME_BYTES` or `OUTCOME_ROWS`.

    Raises:
        UserError: if the file has changed since the unit was made.
    """
    reader = _Reader(file, source)
    with open_url(file.url, file.options) as stream:
        head = stream.read(8)
    other = next((name for magic, name in _OTHERS.items() if head.startswith(magic)), None)
    if file.size == 0:
        reader.fail_file("empty_file", "no bytes")
    elif _is_parquet(file.name, head):
        yield from reader.read_parquet(groups)
    elif other:
        reader.fail_file("unreadable_file", f"{other}, not JSON lines, gzip, zstd or Parquet")
    else:
        yield from reader.read_lines(decompress.compression(head))
    yield reader.rows.take()


class _Reader:
    """Turns the rows of one file into documents and verdicts."""

    def __init__(self, file: InputFile, source: DocumentsSource) -> None:
        self.rows = Rows(source.name, file.segment(source.name))
        self._file = file
        self._source = source
        self._columns = [
            name
            for name in (
                source.url_column, source.title_column, source.date_column,
                source.license_column, source.language_column,
            )
            if name is not None
        ]  # fmt: skip
        self._seen = 0

    def fail_file(self, reason: str, error: str, **more: Any) -> None:
        """Count one failure of the file as such."""
        identity = document_id(self._source.name, "", f"{self._file.digest}:{reason}".encode())
        self.rows.fail(identity, reason, {"file": self._file.name, "error": error, **more})

    def _full(self) -> bool:
        return self.rows.text_bytes >= OUTCOME_BYTES or len(self.rows) >= OUTCOME_ROWS

    def read_lines(self, compression: bytes | None) -> Iterator[Outcome]:
        """Read JSON lines."""
        chunks = self._file.chunks()
        if compression:
            chunks = decompress.unpack(chunks, compression)
        number = self._file.line - 1
        try:
            for lines in jsonl.split_lines(chunks, self._source.max_row_bytes):
                for line in lines:
                    number += 1
                    self._line(line, number)
                    if self._full():
                        yield self.rows.take()
        except decompress.Damaged as damage:
            whole = self._last_line(damage.rest, number + 1)
            self.fail_file(damage.reason, str(damage), line=number + 1 + whole)
        if self._file.whole and not self._seen and not len(self.rows):
            self.fail_file("empty_file", "no row")

    def _last_line(self, line: bytes, number: int) -> bool:
        """Take the line that damage cut off, if it happens to be whole."""
        try:
            jsonl.parse(line)
        except jsonl.BadRow:
            return False
        self._line(line, number)
        return True

    def _line(self, line: jsonl.Line, number: int) -> None:
        if isinstance(line, jsonl.LongLine):
            self._seen += 1
            identity = document_id(self._source.name, "", line.digest.encode())
            limit = self._source.max_row_bytes
            self.rows.fail(
                identity, "too_large", self._at(line=number, bytes=line.size, limit=limit)
            )
            return
        if number == 1:
            line = line.removeprefix(jsonl.BOM)
        if not line or line.isspace():
            return
        self._seen += 1
        try:
            record = jsonl.parse(line)
        except jsonl.BadRow as bad:
            identity = document_id(self._source.name, "", line)
            self.rows.fail(
                identity, bad.reason, self._at(line=number, error=str(bad), begins=_beginning(line))
            )
            return
        text = record.get(self._source.text_column)
        if isinstance(text, str):
            try:
                content = text.encode()
            except UnicodeEncodeError as error:
                message = f"unpaired surrogate in the text at character {error.start}"
                identity = document_id(self._source.name, self._url(record) or "", line)
                where = self._at(line=number, error=message, begins=_beginning(line))
                self.rows.fail(identity, "bad_utf8", where, self._url(record))
                return
            self._document(content, record, {"line": number})
        else:
            self._no_text(record, {"line": number}, line)

    def _at(self, **where: Any) -> dict[str, Any]:
        return {"file": self._file.name, **where}

    def _url(self, record: Mapping[str, Any]) -> str | None:
        return _string(record.get(self._source.url_column)) if self._source.url_column else None

    def _no_text(self, record: Mapping[str, Any], where: Mapping[str, int], content: bytes) -> None:
        column = self._source.text_column
        if column not in record:
            error = f"no {column!r}; it has {', '.join(sorted(record)[:20]) or 'nothing'}"
        elif record[column] is None:
            error = f"{column!r} is null"
        else:
            error = f"{column!r} is of type {type(record[column]).__name__}, not text"
        url = self._url(record)
        identity = document_id(self._source.name, url or "", content)
        self.rows.fail(identity, "missing_text", self._at(**where, error=_clean(error)), url)

    def _document(self, text: bytes, record: Mapping[str, Any], where: Mapping[str, int]) -> None:
        """Add a row whose text is valid UTF-8."""
        source = self._source
        url = self._url(record)
        identity = document_id(source.name, url or "", text)
        if _is_blank(text):
            self.rows.drop(identity, "empty_text", self._at(**where), url)
            return
        self.rows.keep(
            identity,
            text,
            url=url,
            title=_string(record.get(source.title_column)) if source.title_column else None,
            date=iso_date(record.get(source.date_column)) if source.date_column else None,
            language=_string(record.get(source.language_column))
            if source.language_column
            else None,
            license_=(
                (_string(record.get(source.license_column)) if source.license_column else None)
                or source.license
            ),
        )

    def read_parquet(self, groups: range | None) -> Iterator[Outcome]:
        """Read row groups of a Parquet file, or say what is wrong with it."""
        with open_url(self._file.url, self._file.options) as stream:
            try:
                opened = parquet.open_parquet(stream, self._source.text_column)
            except parquet.Unreadable as error:
                self.fail_file("unreadable_file", str(error))
                return
            if opened.metadata.num_rows == 0:
                self.fail_file("empty_file", "no row")
                return
            groups = groups or range(opened.num_row_groups)
            if groups.stop > opened.num_row_groups:
                raise UserError(CHANGED.format(self._file.name))
            text_column = self._source.text_column
            for batch in parquet.read_groups(opened, groups, text_column, self._columns):
                for offset, text in enumerate(batch.texts):
                    self._table_row(batch, offset, text)
                    if self._full():
                        yield self.rows.take()

    def _table_row(self, batch: parquet.Batch, offset: int, text: bytes | None) -> None:
        where = {"row": batch.first + offset}
        source = self._source
        position = f"{self._file.digest}:{where['row']}".encode()
        if batch.error is not None:
            identity = document_id(source.name, "", position)
            self.rows.fail(identity, "unreadable_rows", self._at(**where, error=batch.error))
            return
        record = {name: values[offset] for name, values in batch.columns.items()}
        if text is None:
            self._no_text({**record, source.text_column: None}, where, position)
            return
        url = self._url(record)
        if len(text) > source.max_row_bytes:
            identity = document_id(source.name, url or "", position)
            limit = source.max_row_bytes
            self.rows.fail(
                identity, "too_large", self._at(**where, bytes=len(text), limit=limit), url
            )
            return
        try:
            str(text, "utf-8")
        except UnicodeDecodeError as error:
            identity = document_id(source.name, url or "", text)
            message = f"{error.reason} at byte {error.start} of the text"
            self.rows.fail(identity, "bad_utf8", self._at(**where, error=message), url)
            return
        self._document(text, record, where)


def _is_blank(text: bytes) -> bool:
    """Whether UTF-8 holds nothing but Unicode white space."""
    if not len(text):
        return True
    if 0x20 < text[0] < 0x80:  # almost every text: it begins with a visible ASCII character
        return False
    return str(text, "utf-8").isspace()


def _string(value: object) -> str | None:
    """A value if it is text that UTF-8 can hold."""
    if not isinstance(value, str) or not value:
        return None
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _beginning(line: bytes) -> str:
    return line[: 4 * BEGINNING].decode("utf-8", "replace")[:BEGINNING]
