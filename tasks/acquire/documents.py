"""Documents: one per row of JSONL (plain, gzip, zstd) or Parquet files.

The input rows are lines that are not blank, or rows of the table. Verdicts: ``bad_utf8``,
``bad_json``, ``bad_row`` (JSON, but no object), ``missing_text`` (absent, null or not a string)
and ``too_large`` are failures of a row; ``empty_text`` drops one without text;
``unreadable_file``, ``empty_file`` (no row at all), ``truncated_file`` and ``corrupt_file`` are
failures of a file, counted once, after the rows before the damage; ``unreadable_rows`` are rows
that a Parquet file's footer counts but its body does not contain.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from infra.dataset.fingerprint import document_id, json_sha256
from infra.dataset.stage import PartResult, WorkUnit
from infra.formats.zstd_frames import ZSTD, skip_frames, skippable_bytes
from infra.store.storage import open_url
from tasks.acquire import decompress, jsonl, parquet
from tasks.acquire.config import DocumentsSource
from tasks.acquire.document_builder import DocumentBuilder, iso_date
from tasks.acquire.input_files import InputChangedError, InputFile, RangeSplitter, list_files

MODULES = ("tasks.acquire.documents",)
LIBRARIES = ("orjson", "pyarrow")

# Plain JSONL is cut into units of this size, Parquet into row groups of this much text.
UNIT_BYTES = 64 << 20

# A part ends when it has this many bytes of text or this many rows.
MAX_PART_BYTES, MAX_PART_ROWS = 64 << 20, 50_000

# Characters of a broken row that are quoted as evidence.
EXCERPT_CHARS = 120

_UNSUPPORTED_MAGIC = {
    b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip", b"\x04\x22\x4d\x18": "lz4",
    b"%PDF": "PDF", b"SQLite f": "SQLite",
}  # fmt: skip


def fingerprint_config(source: DocumentsSource) -> dict[str, Any]:
    """The settings that decide the output, as JSON values; the paths do not."""
    return {
        key: value
        for key, value in source.to_json().items()
        if key not in ("name", "kind", "paths", "snapshot")
    }


def list_units(source: DocumentsSource) -> list[WorkUnit]:
    """The pieces of work: files, ranges of large plain files, row groups of Parquet files.

    Reads every file once, for its digest.

    Raises:
        UserError: if a pattern matches nothing or a file cannot be read.
    """
    units: list[WorkUnit] = []
    for file in list_files(source.paths, make_splitter=_make_splitter):
        for groups in _plan_row_groups(file, source):
            cut = [groups.start, groups.stop] if groups else [file.start, file.end]
            key = json_sha256({"file": file.digest, "name": file.name, "cut": cut})
            units.append(WorkUnit(key, (file, groups, source)))
    return units


def _make_splitter(name: str, head: bytes) -> RangeSplitter | None:
    plain = not (
        decompress.detect_compression(head) or skippable_bytes(head) or _is_parquet(name, head)
    )
    return jsonl.LineRangeSplitter(UNIT_BYTES) if plain else None


def _is_parquet(name: str, head: bytes) -> bool:
    return head.startswith(parquet.MAGIC) or name.endswith(".parquet")


def _plan_row_groups(file: InputFile, source: DocumentsSource) -> list[range | None]:
    if not file.is_whole:
        return [None]
    with open_url(file.url, file.options) as stream:
        if not _is_parquet(file.name, stream.read(8)):
            return [None]
        stream.seek(0)
        try:
            opened = parquet.open_parquet(stream, source.text_column)
        except parquet.ParquetReadError:
            return [None]  # the worker counts it as a failure
        return list(
            parquet.plan_row_groups(opened, source.text_column, UNIT_BYTES, MAX_PART_ROWS)
        ) or [None]


def read_documents(
    file: InputFile, row_groups: range | None, source: DocumentsSource
) -> Iterator[PartResult]:
    """Read a piece of a source's input.

    Args:
        file: the file, or a range of a plain JSONL file that begins and ends with a line.
        row_groups: row groups of a Parquet file; ``None`` for JSONL and for a broken Parquet file.
        source: names the columns.

    Yields:
        At least one part; a further one for every `MAX_PART_BYTES` or `MAX_PART_ROWS`.

    Raises:
        UserError: if the file has changed since the unit was made.
    """
    reader = _DocumentReader(file, source)
    with open_url(file.url, file.options) as stream:
        skipped_bytes = skip_frames(stream, 0)
        stream.seek(skipped_bytes)
        head = stream.read(8)
    other = next(
        (name for magic, name in _UNSUPPORTED_MAGIC.items() if head.startswith(magic)), None
    )
    if file.size == 0:
        reader.fail_file("empty_file", "no bytes")
    elif _is_parquet(file.name, head):
        yield from reader.read_parquet(row_groups)
    elif other:
        reader.fail_file("unreadable_file", f"{other}, not JSON lines, gzip, zstd or Parquet")
    else:
        compression = ZSTD if skipped_bytes else decompress.detect_compression(head)
        yield from reader.read_lines(compression)
    yield reader.builder.flush()


class _DocumentReader:
    """Turn the rows of one file into documents and verdicts."""

    def __init__(self, file: InputFile, source: DocumentsSource) -> None:
        self.builder = DocumentBuilder(source.name, file.segment(source.name))
        self._file = file
        self._source = source
        self._extra_columns = [
            name
            for name in (
                source.url_column, source.title_column, source.date_column,
                source.license_column, source.language_column,
            )
            if name is not None
        ]  # fmt: skip
        self._num_rows = 0

    def fail_file(self, reason: str, error: str, **more: Any) -> None:
        """Count one failure of the file itself."""
        identity = document_id(self._source.name, "", f"{self._file.digest}:{reason}".encode())
        self.builder.add_failed(identity, reason, {"file": self._file.name, "error": error, **more})

    def _is_full(self) -> bool:
        return self.builder.text_bytes >= MAX_PART_BYTES or len(self.builder) >= MAX_PART_ROWS

    def read_lines(self, compression: bytes | None) -> Iterator[PartResult]:
        """Read JSON lines."""
        chunks = self._file.chunks()
        if compression:
            chunks = decompress.decompress(chunks, compression)
        number = self._file.first_line - 1
        try:
            for lines in jsonl.split_lines(chunks, self._source.max_row_bytes):
                for line in lines:
                    number += 1
                    self._add_line(line, number)
                    if self._is_full():
                        yield self.builder.flush()
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
            identity = document_id(self._source.name, "", line.digest.encode())
            limit = self._source.max_row_bytes
            self.builder.add_failed(
                identity, "too_large", self._evidence(line=number, bytes=line.size, limit=limit)
            )
            return
        line = line.removeprefix(jsonl.BOM)  # of the file, or of one that was appended to it
        if not line or line.isspace():
            return
        self._num_rows += 1
        try:
            record = jsonl.parse_line(line)
        except jsonl.InvalidRowError as bad:
            identity = document_id(self._source.name, "", line)
            self.builder.add_failed(
                identity,
                bad.reason,
                self._evidence(line=number, error=str(bad), begins=_excerpt(line)),
            )
            return
        text = record.get(self._source.text_column)
        if isinstance(text, str):
            try:
                content = text.encode()
            except UnicodeEncodeError as error:
                message = f"unpaired surrogate in the text at character {error.start}"
                identity = document_id(self._source.name, self._url(record) or "", line)
                where = self._evidence(line=number, error=message, begins=_excerpt(line))
                self.builder.add_failed(identity, "bad_utf8", where, self._url(record))
                return
            self._add_document(content, record, {"line": number})
        else:
            self._fail_without_text(record, {"line": number}, line)

    def _evidence(self, **where: Any) -> dict[str, Any]:
        return {"file": self._file.name, **where}

    def _url(self, record: Mapping[str, Any]) -> str | None:
        return (
            _valid_string(record.get(self._source.url_column)) if self._source.url_column else None
        )

    def _fail_without_text(
        self, record: Mapping[str, Any], where: Mapping[str, int], content: bytes
    ) -> None:
        column = self._source.text_column
        if column not in record:
            error = f"no {column!r}; it has {', '.join(sorted(record)[:20]) or 'nothing'}"
        elif record[column] is None:
            error = f"{column!r} is null"
        else:
            error = f"{column!r} is of type {type(record[column]).__name__}, not text"
        url = self._url(record)
        identity = document_id(self._source.name, url or "", content)
        self.builder.add_failed(
            identity, "missing_text", self._evidence(**where, error=_replace_surrogates(error)), url
        )

    def _add_document(
        self, text: bytes, record: Mapping[str, Any], where: Mapping[str, int]
    ) -> None:
        """Add a row whose text is valid UTF-8."""
        source = self._source
        url = self._url(record)
        identity = document_id(source.name, url or "", text)
        if _is_blank(text):
            self.builder.add_dropped(identity, "empty_text", self._evidence(**where), url)
            return
        self.builder.add(
            identity,
            text,
            url=url,
            title=_valid_string(record.get(source.title_column)) if source.title_column else None,
            date=iso_date(record.get(source.date_column)) if source.date_column else None,
            language=_valid_string(record.get(source.language_column))
            if source.language_column
            else None,
            license_=(
                (
                    _valid_string(record.get(source.license_column))
                    if source.license_column
                    else None
                )
                or source.license
            ),
        )

    def read_parquet(self, row_groups: range | None) -> Iterator[PartResult]:
        """Read row groups of a Parquet file; one that cannot be read is counted as failed."""
        with open_url(self._file.url, self._file.options) as stream:
            try:
                opened = parquet.open_parquet(stream, self._source.text_column)
            except parquet.ParquetReadError as error:
                self.fail_file("unreadable_file", str(error))
                return
            if opened.metadata.num_rows == 0:
                self.fail_file("empty_file", "no row")
                return
            row_groups = row_groups or range(opened.num_row_groups)
            if row_groups.stop > opened.num_row_groups:
                raise InputChangedError(self._file.name)
            text_column = self._source.text_column
            for batch in parquet.read_row_groups(
                opened, row_groups, text_column, self._extra_columns
            ):
                for offset, text in enumerate(batch.texts):
                    self._add_table_row(batch, offset, text)
                    if self._is_full():
                        yield self.builder.flush()

    def _add_table_row(self, batch: parquet.RowBatch, offset: int, text: bytes | None) -> None:
        where = {"row": batch.first_row + offset}
        source = self._source
        position = f"{self._file.digest}:{where['row']}".encode()
        if batch.error is not None:
            identity = document_id(source.name, "", position)
            self.builder.add_failed(
                identity, "unreadable_rows", self._evidence(**where, error=batch.error)
            )
            return
        record = {name: values[offset] for name, values in batch.columns.items()}
        if text is None:
            self._fail_without_text({**record, source.text_column: None}, where, position)
            return
        url = self._url(record)
        if len(text) > source.max_row_bytes:
            identity = document_id(source.name, url or "", position)
            limit = source.max_row_bytes
            self.builder.add_failed(
                identity, "too_large", self._evidence(**where, bytes=len(text), limit=limit), url
            )
            return
        try:
            str(text, "utf-8")
        except UnicodeDecodeError as error:
            identity = document_id(source.name, url or "", text)
            message = f"{error.reason} at byte {error.start} of the text"
            self.builder.add_failed(
                identity, "bad_utf8", self._evidence(**where, error=message), url
            )
            return
        self._add_document(text, record, where)


def _is_blank(text: bytes) -> bool:
    """Whether UTF-8 text is nothing but Unicode white space."""
    if not len(text):
        return True
    if 0x20 < text[0] < 0x80:  # almost every text: it begins with a visible ASCII character
        return False
    return str(text, "utf-8").isspace()


def _valid_string(value: object) -> str | None:
    """The value if it is text that UTF-8 can encode, else ``None``."""
    if not isinstance(value, str) or not value:
        return None
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def _replace_surrogates(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _excerpt(line: bytes) -> str:
    return line[: 4 * EXCERPT_CHARS].decode("utf-8", "replace")[:EXCERPT_CHARS]
