"""Documents: one per row of JSONL (plain or compressed), Parquet or Arrow files.

The input rows are lines that are not blank, or rows of the table. Verdicts: ``bad_utf8``,
``bad_json``, ``bad_row`` (JSON, but no object), ``missing_text`` (absent, null or not a string)
and ``too_large`` are failures of a row; ``empty_text`` drops one without text;
``unreadable_file``, ``empty_file`` (no row at all), ``truncated_file`` and ``corrupt_file`` are
failures of a file, counted once, after the rows before the damage; ``unreadable_rows`` are rows
that a Parquet file's footer counts but its body does not contain. An Arrow file counts no rows, so
where it breaks off, ``unreadable_file`` follows the rows before.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from infra.dataset.fingerprint import document_id, json_sha256
from infra.dataset.ledger import dropped, failed
from infra.dataset.stage import PartResult, WorkUnit
from infra.formats import decompress, jsonl
from infra.formats.characters import is_blank
from infra.formats.zstd_frames import ZSTD, skip_frames, skippable_bytes
from infra.store.external_files import open_url
from tasks.acquire import file_formats, table_files
from tasks.acquire.document_builder import MAX_PART_ROWS, DocumentBuilder, iso_date
from tasks.acquire.input_files import InputChangedError, InputFile, list_files
from tasks.acquire.source import FileSource

log = logging.getLogger(__name__)

# Plain JSONL is cut into units of this size, Parquet into row groups of this much text.
UNIT_BYTES = 64 << 20

# Characters of a broken row that are quoted as evidence.
EXCERPT_CHARS = 120


class DocumentsSource(FileSource):
    """Rows of JSONL (plain or compressed), Parquet or Arrow IPC files: one document per row."""

    kind: Literal["documents"]
    text_column: str = Field(default="text", description="column of the text")
    url_column: str | None = Field(default=None, description="column of the URL")
    title_column: str | None = Field(default=None, description="column of the title")
    date_column: str | None = Field(
        default=None, description="column of the document's own date (ISO 8601)"
    )
    license_column: str | None = Field(
        default=None, description="column of the license; `license` where it is null"
    )
    language_column: str | None = Field(
        default=None, description="column of a language tag, kept as language_hint"
    )
    max_row_bytes: int = Field(
        default=64 << 20,
        ge=1,
        description="a longer line (or Parquet text) fails as too_large, unread",
    )

    libraries: ClassVar[tuple[str, ...]] = ("orjson", "pyarrow")

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        if self.text_column == self.url_column:
            raise ValueError("text_column and url_column are the same column")
        return self

    @property
    def extra_columns(self) -> list[str]:
        """The columns to read besides the text, each once."""
        names = (
            self.url_column, self.title_column, self.date_column, self.license_column,
            self.language_column,
        )  # fmt: skip
        return list(dict.fromkeys(name for name in names if name is not None))

    def list_units(self) -> list[WorkUnit]:
        """The pieces of work: files, ranges of large plain files, row groups of Parquet files."""
        units: list[WorkUnit] = []
        for file in list_files(self.paths, make_splitter=_make_splitter):
            for groups in _plan_row_groups(file, self.text_column):
                cut = [groups.start, groups.stop] if groups else [file.start, file.end]
                key = json_sha256({"file": file.digest, "name": file.name, "cut": cut})
                units.append(WorkUnit(key, (self, file, groups)))
        return units

    def read_file(self, file: InputFile, row_groups: range | None = None) -> Iterator[PartResult]:
        """Read a file, or a range of it.

        Args:
            file: the file, or a range of a plain JSONL file that begins and ends with a line.
            row_groups: of a Parquet file; ``None`` for JSONL and for a broken Parquet file.

        Yields:
            At least one part; a further one for every `MAX_PART_BYTES` or `MAX_PART_ROWS`.
        """
        reader = _DocumentReader(file, self)
        with open_url(file.url, file.options) as stream:
            skipped_bytes = skip_frames(stream, 0)
            stream.seek(skipped_bytes)
            head = stream.read(file_formats.HEAD_BYTES)
        if file.size == 0:
            reader.fail_file("empty_file", "no bytes")
        elif file_formats.is_parquet(file.name, head):
            yield from reader.read_parquet(row_groups)
        elif file_formats.is_arrow(file.name, head):
            yield from reader.read_arrow()
        elif other := file_formats.find_unsupported(head):
            reader.fail_file("unreadable_file", f"{other}, not JSON lines, Parquet or Arrow")
        else:
            compression = ZSTD if skipped_bytes else decompress.detect_compression(head)
            yield from reader.read_lines(compression)
        reader.warn_of_empty_columns()
        yield reader.builder.flush()


def _make_splitter(name: str, head: bytes) -> jsonl.LineRangeSplitter | None:
    is_table = file_formats.is_parquet(name, head) or file_formats.is_arrow(name, head)
    plain = not (decompress.detect_compression(head) or skippable_bytes(head) or is_table)
    return jsonl.LineRangeSplitter(UNIT_BYTES) if plain else None


def _plan_row_groups(file: InputFile, text_column: str) -> list[range | None]:
    if not file.is_whole:
        return [None]
    with open_url(file.url, file.options) as stream:
        if not file_formats.is_parquet(file.name, stream.read(8)):
            return [None]
        stream.seek(0)
        try:
            opened = table_files.open_parquet(stream, text_column)
            ranges = table_files.plan_row_groups(opened, text_column, UNIT_BYTES, MAX_PART_ROWS)
        except table_files.TableReadError:
            return [None]  # the worker counts it as a failure
        return [*ranges] or [None]


class _DocumentReader:
    """Turn the rows of one file into documents and verdicts."""

    def __init__(self, file: InputFile, source: DocumentsSource) -> None:
        self.builder = DocumentBuilder(source.name, file.segment(source.name))
        self._file = file
        self._source = source
        self._num_rows = 0
        # Of the kept documents: how many have a value of a column that is left out, by column and why.
        self._ignored: Counter[tuple[str, str]] = Counter()
        self._missing: Counter[str] = Counter()
        self._num_kept = 0

    def fail_file(self, reason: str, error: str, **more: Any) -> None:
        """Count one failure of the file itself."""
        self._fail(reason, f"{self._file.digest}:{reason}".encode(), error=error, **more)

    def _fail(
        self, reason: str, content: bytes, *, url: str | None = None, **evidence: Any
    ) -> None:
        identity = document_id(self._source.name, url or "", content)
        self.builder.reject(identity, failed(reason, file=self._file.name, **evidence), url)

    def read_lines(self, compression: bytes | None) -> Iterator[PartResult]:
        """Read JSON lines."""
        chunks = self._file.chunks()
        if compression:
            chunks = file_formats.check_unpacked(decompress.decompress(chunks, compression))
        number = self._file.first_line - 1
        try:
            for lines in jsonl.split_lines(chunks, self._source.max_row_bytes):
                for line in lines:
                    number += 1
                    self._add_line(line, number)
                    yield from self.builder.take_full()
        except decompress.CorruptStreamError as damage:
            is_complete = self._add_cut_line(damage.rest, number + 1)
            self.fail_file(damage.reason, str(damage), line=number + 1 + is_complete)
        if self._file.is_whole and not self._num_rows and not len(self.builder):
            self.fail_file("empty_file", "no row")

    def _add_cut_line(self, line: bytes, number: int) -> bool:
        """Add the line that damage cut off, if it happens to be complete."""
        try:
            jsonl.parse_line(line)
        except jsonl.InvalidRowError:
            return False
        self._add_line(line, number)
        return True

    def _add_line(self, line: jsonl.Line, number: int) -> None:
        if isinstance(line, jsonl.OversizeLine):
            self._num_rows += 1
            limit = self._source.max_row_bytes
            digest = line.digest.encode()
            self._fail("too_large", digest, line=number, bytes=line.size, limit=limit)
            return
        line = line.removeprefix(jsonl.BOM)  # of the file, or of one that was appended to it
        if not line or line.isspace():
            return
        self._num_rows += 1
        try:
            record = jsonl.parse_line(line)
        except jsonl.InvalidRowError as bad:
            self._fail(bad.reason, line, line=number, error=str(bad), begins=_excerpt(line))
            return
        text = record.get(self._source.text_column)
        if not isinstance(text, str):
            self._fail_without_text(record, line, line=number)
            return
        try:
            content = text.encode()
        except UnicodeEncodeError as error:
            message = f"unpaired surrogate in the text at character {error.start}"
            evidence = {"line": number, "error": message, "begins": _excerpt(line)}
            self._fail("bad_utf8", line, url=self._url(record), **evidence)
            return
        self._add_document(content, record, line=number)

    def _url(self, record: Mapping[str, Any]) -> str | None:
        column = self._source.url_column
        return None if column is None else _text_value(record.get(column))

    def _fail_without_text(
        self, record: Mapping[str, Any], content: bytes, **position: int
    ) -> None:
        column = self._source.text_column
        if column not in record:
            error = f"no {column!r}; it has {', '.join(sorted(record)[:20]) or 'nothing'}"
        elif record[column] is None:
            error = f"{column!r} is null"
        else:
            error = f"{column!r} is of type {type(record[column]).__name__}, not text"
        error = error.encode("utf-8", "replace").decode()  # names may have unpaired surrogates
        self._fail("missing_text", content, url=self._url(record), error=error, **position)

    def _add_document(self, text: bytes, record: Mapping[str, Any], **position: int) -> None:
        """Add a row whose text is valid UTF-8."""
        source = self._source
        url = self._url(record)
        identity = document_id(source.name, url or "", text)
        if _is_blank(text):
            self.builder.reject(
                identity, dropped("empty_text", file=self._file.name, **position), url
            )
            return
        ignored: dict[str, str] = {}
        values: dict[str | None, str | None] = {
            column: self._read_value(record, column, ignored) for column in source.extra_columns
        }
        get = values.get
        self._num_kept += 1
        self._ignored.update(ignored.items())
        self.builder.add(
            identity,
            text,
            url=url,
            title=get(source.title_column),
            date=get(source.date_column),
            language=get(source.language_column),
            license_=get(source.license_column) or source.license,
            evidence={"ignored": ignored} if ignored else None,
        )

    def _read_value(
        self, record: Mapping[str, Any], column: str, ignored: dict[str, str]
    ) -> str | None:
        """The text of a column; a value that has none is added to `ignored`, with the reason."""
        value = record.get(column)
        if column not in record:
            self._missing[column] += 1
        if value is None or value == "" or value != value:  # pandas writes null as NaN
            return None
        if column == self._source.date_column:
            text = iso_date(value)
            reason = "not an ISO 8601 date" if isinstance(value, str | int) else ""
        else:
            text = _text_value(value)
            reason = "not UTF-8" if isinstance(value, str) else ""
        if text is None:
            ignored[column] = reason or f"of type {type(value).__name__}"
        return text

    def warn_of_empty_columns(self) -> None:
        """Log which columns of the recipe are left empty, and why: nothing else shows it in a run."""
        counts = {**self._ignored}
        for column, count in self._missing.items():
            if count == self._num_kept:
                counts[column, "missing in all rows"] = count
        for (column, reason), count in sorted(counts.items()):
            message = "%s: column %r is left empty in %d of %d rows: %s"
            log.warning(message, self._file.name, column, count, self._num_kept, reason)

    def read_parquet(self, row_groups: range | None) -> Iterator[PartResult]:
        """Read row groups of a Parquet file; one that cannot be read is counted as failed."""
        source = self._source
        with open_url(self._file.url, self._file.options) as stream:
            try:
                opened = table_files.open_parquet(stream, source.text_column, source.extra_columns)
            except table_files.TableReadError as error:
                self.fail_file("unreadable_file", str(error))
                return
            if opened.metadata.num_rows == 0:
                self.fail_file("empty_file", "no row")
                return
            row_groups = row_groups or range(opened.num_row_groups)
            if row_groups.stop > opened.num_row_groups:
                raise InputChangedError(self._file.name)
            yield from self._add_batches(
                table_files.read_row_groups(
                    opened, row_groups, source.text_column, source.extra_columns
                )
            )

    def read_arrow(self) -> Iterator[PartResult]:
        """Read an Arrow file; where it breaks off, one failure is counted."""
        source = self._source
        with open_url(self._file.url, self._file.options) as stream:
            try:
                yield from self._add_batches(
                    table_files.read_arrow(stream, source.text_column, source.extra_columns)
                )
            except table_files.TableReadError as error:
                self.fail_file("unreadable_file", str(error))
        if not self._num_rows and not len(self.builder):
            self.fail_file("empty_file", "no row")

    def _add_batches(self, batches: Iterator[table_files.RowBatch]) -> Iterator[PartResult]:
        for batch in batches:
            for offset, text in enumerate(batch.texts):
                self._num_rows += 1
                self._add_table_row(batch, offset, text)
                yield from self.builder.take_full()

    def _add_table_row(self, batch: table_files.RowBatch, offset: int, text: bytes | None) -> None:
        row = batch.first_row + offset
        source = self._source
        position = f"{self._file.digest}:{row}".encode()
        if batch.error is not None:
            self._fail("unreadable_rows", position, row=row, error=batch.error)
            return
        record = {name: values[offset] for name, values in batch.columns.items()}
        if text is None:
            self._fail_without_text({**record, source.text_column: None}, position, row=row)
            return
        if len(text) > source.max_row_bytes:
            size = {"row": row, "bytes": len(text), "limit": source.max_row_bytes}
            self._fail("too_large", position, url=self._url(record), **size)
            return
        try:
            str(text, "utf-8")
        except UnicodeDecodeError as error:
            message = f"{error.reason} at byte {error.start} of the text"
            self._fail("bad_utf8", text, url=self._url(record), row=row, error=message)
            return
        self._add_document(text, record, row=row)


def _is_blank(text: bytes) -> bool:
    """Whether UTF-8 text shows nothing."""
    if not len(text):
        return True
    if 0x20 < text[0] < 0x7F:  # almost every text: it begins with a visible ASCII character
        return False
    return is_blank(str(text, "utf-8"))


def _text_value(value: object) -> str | None:
    """A value as text if it is text that UTF-8 can encode, or a whole number; else ``None``."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(int(value)) if value == value // 1 else None
    if not isinstance(value, str) or not value:
        return None
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def _excerpt(line: bytes) -> str:
    return line[: 4 * EXCERPT_CHARS].decode("utf-8", "replace")[:EXCERPT_CHARS]
