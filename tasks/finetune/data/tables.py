"""Files with named columns: JSON lines, JSON, CSV and TSV, Parquet, Arrow."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from infra.formats.jsonl import BOM, InvalidRowError, parse_line
from tasks.finetune.data.records import DataFileError, Rejection, Record

MAX_FIELD_CHARS = 1 << 30  # Python's own limit for a CSV field, 131,072, is less than a long article
_READ_ERRORS = (pa.ArrowException, OSError, ValueError, KeyError, TypeError)


def read_jsonl(data: bytes, name: str) -> Iterator[Record | Rejection]:
    """Read JSON lines; empty lines are skipped."""
    del name
    for row, line in enumerate(data.removeprefix(BOM).split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            yield Record(row, parse_line(line))
        except InvalidRowError as error:
            yield Rejection(row, error.reason, str(error))


def read_json(data: bytes, name: str) -> Iterator[Record | Rejection]:
    """Read a JSON array of objects, or an object whose only array (such as ``data``) holds them.

    Raises:
        DataFileError: if it is other JSON or none.
    """
    try:
        content = orjson.loads(data.removeprefix(BOM))
    except orjson.JSONDecodeError as error:
        raise DataFileError(f"{name}: not JSON: {error}; name lines of JSON .jsonl") from None
    if isinstance(content, dict):
        arrays = [value for value in content.values() if isinstance(value, list)]
        content = arrays[0] if len(arrays) == 1 else content
    if not isinstance(content, list):
        raise DataFileError(f"{name}: not a JSON array of examples")
    for row, item in enumerate(content, 1):
        if isinstance(item, dict):
            yield Record(row, item)
        else:
            yield Rejection(row, "bad_row", f"{type(item).__name__}, not an object")


def read_csv(
    data: bytes, name: str, *, delimiter: str, quoted: bool, header: bool, encoding: str
) -> Iterator[Record | Rejection]:
    """Read CSV (RFC 4180) or TSV.

    Args:
        data: the file.
        name: of the file, for messages.
        delimiter: of the fields.
        quoted: whether fields may be in double quotes and then hold line breaks. Tab separated
            values have no quotes: there ``"`` is a character like others.
        header: whether the first row has the names of the columns; else they are "0", "1", ...
        encoding: of the file. Bytes that are not of it make their row fail, not the file.

    Raises:
        DataFileError: if the file is empty, its header is of another encoding, or two of its columns have the
            same name.
    """
    text = data.removeprefix(BOM).decode(encoding, "surrogateescape")
    csv.field_size_limit(MAX_FIELD_CHARS)
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=True,
    )
    columns = None
    if header:
        columns = next(reader, None)
        if not columns:
            raise DataFileError(f"{name}: no header; columns of a file without one are numbers")
        columns = [column.strip() for column in columns]
        if any(_is_undecoded(column) for column in columns):
            raise DataFileError(f"{name}: the header is not {encoding}; name the encoding under data.encoding")
        if twice := {column for column in columns if columns.count(column) > 1}:
            raise DataFileError(f"{name}: two columns are named {min(twice)!r}")
    while True:
        row = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            # An open quote takes all that follows it into its field: each of these lines is a row that is lost.
            last = reader.line_num
            lines = f"lines {row} to {last}" if last > row else f"line {row}"
            yield Rejection(row, "bad_row", f"{lines}: {error}")
            for line in range(row + 1, last + 1):
                yield Rejection(line, "bad_row", f"in the open quote of line {row}")
            continue
        if fields is None:
            return
        if not fields:
            continue
        names = columns or [str(number) for number in range(len(fields))]
        yield _make_record(row, names, fields)


def _make_record(row: int, columns: Sequence[str], fields: Sequence[str]) -> Record | Rejection:
    if len(fields) != len(columns):
        message = f"{len(fields)} fields in place of {len(columns)}"
        return Rejection(row, "bad_row", message)
    for column, field in zip(columns, fields, strict=True):
        if _is_undecoded(field):
            return Rejection(row, "bad_encoding", f"column {column!r} has bytes of another encoding")
    return Record(row, dict(zip(columns, fields, strict=True)))


def _is_undecoded(text: str) -> bool:
    """Return whether a text has bytes of another encoding, which were read as surrogates."""
    return any("\ud800" <= char <= "\udfff" for char in text)


def read_parquet(data: bytes, name: str) -> Iterator[Record | Rejection]:
    """Read a Parquet file.

    Raises:
        DataFileError: if it cannot be read.
    """
    try:
        table = pq.read_table(pa.BufferReader(data))
    except _READ_ERRORS as error:
        raise DataFileError(f"{name}: not a readable Parquet file: {_first_line(error)}") from None
    yield from _iter_rows(table)


def read_arrow(data: bytes, name: str) -> Iterator[Record | Rejection]:
    """Read an Arrow file or stream, as ``datasets.Dataset.save_to_disk`` writes them.

    Raises:
        DataFileError: if it cannot be read.
    """
    buffer = pa.BufferReader(data)
    try:
        is_file = data.startswith(b"ARROW1")
        reader = pa.ipc.open_file(buffer) if is_file else pa.ipc.open_stream(buffer)
        table = reader.read_all()
        table.validate(full=True)
    except _READ_ERRORS as error:
        raise DataFileError(f"{name}: not a readable Arrow file: {_first_line(error)}") from None
    yield from _iter_rows(table)


def _iter_rows(table: pa.Table) -> Iterator[Record]:
    """Iterate over the rows; numbers that stand for class names become these."""
    columns = {
        name: _name_classes(table[name].to_pylist(), classes) if classes else table[name].to_pylist()
        for name in table.column_names
        for classes in [_class_names(table.schema).get(name)]
    }
    for index in range(table.num_rows):
        yield Record(index + 1, {name: values[index] for name, values in columns.items()})


def _class_names(schema: pa.Schema) -> Mapping[str, Sequence[str]]:
    """Return the names of a ClassLabel column, also of lists, from the metadata of ``datasets``."""
    metadata = (schema.metadata or {}).get(b"huggingface")
    if not metadata:
        return {}
    features = json.loads(metadata).get("info", {}).get("features", {})
    names: dict[str, Sequence[str]] = {}
    for column, feature in features.items():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else {}
        if isinstance(inner, dict) and inner.get("_type") == "ClassLabel" and inner.get("names"):
            names[column] = inner["names"]
    return names


def _name_classes(values: list[Any], names: Sequence[str]) -> list[Any]:
    def lookup(value: Any) -> Any:
        if isinstance(value, list):
            return [lookup(item) for item in value]
        # -1 is how `datasets` marks an example without a label.
        return names[value] if isinstance(value, int) and 0 <= value < len(names) else None

    return [lookup(value) for value in values]


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0][:300] or type(error).__name__
