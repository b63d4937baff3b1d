"""Parquet and Arrow files as batches of rows; rows that cannot be read are reported one by one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra.formats.arrow_text import utf8_buffers

PARQUET_MAGIC, ARROW_MAGIC, STREAM_MAGIC = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"
# About this much text is read at once: a row group may have gigabytes.
BATCH_BYTES = 1 << 23
ARROW_BATCH_ROWS = 1 << 12

# What pyarrow raises for a broken file.
_READ_ERRORS = (pa.ArrowException, OSError, ValueError, KeyError, TypeError)


class TableReadError(Exception):
    """A table that cannot be read, or whose columns are not those that are asked for."""


@dataclass(frozen=True)
class RowBatch:
    """Some consecutive rows.

    Attributes:
        first_row: number of the first row in the file, from 0.
        texts: UTF-8, not yet checked; ``None`` for null.
        columns: values of the other columns by name.
        error: why the rows cannot be read; `texts` is then all null.
    """

    first_row: int
    texts: Sequence[bytes | None]
    columns: dict[str, list[Any]]
    error: str | None = None


def open_parquet(
    stream: BinaryIO, text_column: str, extra_columns: Sequence[str] = ()
) -> pq.ParquetFile:
    """Open a Parquet file and check its columns.

    Raises:
        TableReadError: if it cannot be read, has no text in the column, or has two of a name.
    """
    try:
        # Nanoseconds, the default for INT96, wrap around after 2262: 9999-12-31 would be 1816.
        file = pq.ParquetFile(
            stream, pre_buffer=False, buffer_size=1 << 20, coerce_int96_timestamp_unit="us"
        )
        schema = file.schema_arrow
    except _READ_ERRORS as error:
        raise TableReadError(f"not a readable Parquet file: {_first_line(error)}") from None
    _check_columns(schema, text_column, extra_columns)
    return file


def read_arrow(
    stream: BinaryIO, text_column: str, extra_columns: Sequence[str]
) -> Iterator[RowBatch]:
    """Read an Arrow IPC file or stream (``.arrow`` and ``.feather``, as Hugging Face caches them).

    Raises:
        TableReadError: if it cannot be read (further), has no text in the column, or has two of a name.
    """
    first = 0
    try:
        is_file = stream.read(len(ARROW_MAGIC)) == ARROW_MAGIC
        stream.seek(0)
        reader = pa.ipc.open_file(stream) if is_file else pa.ipc.open_stream(stream)
        _check_columns(reader.schema, text_column, extra_columns)
        batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
        for batch in batches:
            batch.validate(full=True)
            for start in range(0, batch.num_rows, ARROW_BATCH_ROWS):
                rows = batch.slice(start, ARROW_BATCH_ROWS)
                yield _row_batch(rows, first + start, text_column, extra_columns)
            first += batch.num_rows
    except _READ_ERRORS as error:
        message = f"not a readable Arrow file after {first} rows: {_first_line(error)}"
        raise TableReadError(message) from None


def _check_columns(schema: pa.Schema, text_column: str, extra_columns: Sequence[str]) -> None:
    names = schema.names
    if text_column not in names:
        raise TableReadError(f"no column {text_column!r}; it has {', '.join(names) or 'none'}")
    for name in dict.fromkeys((text_column, *extra_columns)):
        if names.count(name) > 1:
            raise TableReadError(f"{names.count(name)} columns have the name {name!r}")
    kind = schema.field(text_column).type
    if not _is_text(kind):
        raise TableReadError(f"column {text_column!r} is {kind}, not text")


def _row_batch(
    batch: pa.RecordBatch, first_row: int, text_column: str, extra_columns: Sequence[str]
) -> RowBatch:
    columns = {
        name: _column_values(batch.column(name))
        for name in extra_columns
        if name in batch.schema.names
    }
    return RowBatch(first_row, _text_values(batch.column(text_column)), columns)


def _is_text(data_type: pa.DataType) -> bool:
    if pa.types.is_dictionary(data_type):
        data_type = data_type.value_type
    tests = (
        pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view,
        pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view,
    )  # fmt: skip
    return any(test(data_type) for test in tests)


def plan_row_groups(
    file: pq.ParquetFile, text_column: str, max_bytes: int, max_rows: int
) -> list[range]:
    """Ranges of consecutive row groups, each up to about this much text or this many rows."""
    ranges: list[range] = []
    start, total, rows = 0, 0, 0
    for group in range(file.num_row_groups):
        size, count = _column_bytes(file, group, text_column), _num_rows(file, group)
        if group > start and (total + size > max_bytes or rows + count > max_rows):
            ranges.append(range(start, group))
            start, total, rows = group, 0, 0
        total, rows = total + size, rows + count
    if file.num_row_groups > start:
        ranges.append(range(start, file.num_row_groups))
    return ranges


def _num_rows(file: pq.ParquetFile, group: int) -> int:
    return int(file.metadata.row_group(group).num_rows)


def _column_bytes(file: pq.ParquetFile, group: int, column: str) -> int:
    meta = file.metadata.row_group(group)
    columns = (meta.column(number) for number in range(meta.num_columns))
    return sum(int(c.total_uncompressed_size) for c in columns if c.path_in_schema == column)


def read_row_groups(
    file: pq.ParquetFile, row_groups: range, text_column: str, extra_columns: Sequence[str]
) -> Iterator[RowBatch]:
    """Read row groups, a batch at a time. Rows that cannot be read are a batch with an error.

    Args:
        file: as opened by `open_parquet`.
        row_groups: which row groups.
        text_column: column of the text.
        extra_columns: further columns to read; those that the file does not have are left out.
    """
    names = [name for name in extra_columns if name in file.schema_arrow.names]
    first = sum(_num_rows(file, group) for group in range(row_groups.start))
    for group in row_groups:
        count = _num_rows(file, group)
        per_row = max(_column_bytes(file, group, text_column) // max(count, 1), 1)
        done = 0
        try:
            for batch in file.iter_batches(
                batch_size=max(1, min(BATCH_BYTES // per_row, 1 << 16)),
                row_groups=[group],
                columns=list(dict.fromkeys([text_column, *names])),
                use_threads=False,
            ):
                yield _row_batch(batch, first + done, text_column, names)
                done += batch.num_rows
        except _READ_ERRORS as error:
            lost = [None] * (count - done)
            yield RowBatch(first + done, lost, {}, f"row group {group}: {_first_line(error)}")
        first += count


def _text_values(column: pa.Array) -> list[bytes | None]:
    """The values of a text column as bytes, which may not be valid UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string_view(column.type) or pa.types.is_binary_view(column.type):
        column = column.cast(pa.large_binary())
    if pa.types.is_binary(column.type):
        column = column.view(pa.string())
    elif pa.types.is_large_binary(column.type):
        column = column.view(pa.large_string())
    valid = np.asarray(column.is_valid())
    offsets, data = utf8_buffers(column)
    view, bounds = data.data, offsets.tolist()
    return [
        view[bounds[row] : bounds[row + 1]].tobytes() if good else None
        for row, good in enumerate(valid.tolist())
    ]


def _column_values(column: pa.Array) -> list[Any]:
    """The values of a column; binary ones as text, and times to the microsecond, as Python has them."""
    if pa.types.is_timestamp(column.type):
        zone = None if column.type.tz is None else "UTC"
        column = column.cast(pa.timestamp("us", zone), safe=False)
    elif pa.types.is_time(column.type):
        column = column.cast(pa.time64("us"), safe=False)
    return [
        value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
        for value in _python_values(column)
    ]


def _python_values(column: pa.Array) -> list[Any]:
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):  # one broken value must not cost the others
        return [_scalar_value(item) for item in column]


def _scalar_value(item: pa.Scalar) -> Any:
    try:
        return item.as_py()
    except (ValueError, OverflowError):
        return getattr(item, "value", None)  # the number of a time that Python cannot express


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0][:300] or type(error).__name__
