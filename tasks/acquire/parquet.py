"""Parquet files as batches of rows; rows that cannot be read are reported one by one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra.formats.arrow_text import utf8_buffers

MAGIC = b"PAR1"
# About this much text is read at once: a row group may have gigabytes.
BATCH_BYTES = 1 << 23


class ParquetReadError(Exception):
    """A file that is not Parquet, or does not have the text column."""


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


def open_parquet(stream: BinaryIO, text_column: str) -> pq.ParquetFile:
    """Open a file and check that it has the text column.

    Raises:
        ParquetReadError: if it cannot be read or has no text in the column.
    """
    try:
        file = pq.ParquetFile(stream, pre_buffer=False, buffer_size=1 << 20)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ParquetReadError(f"not a readable Parquet file: {_first_line(error)}") from None
    schema = file.schema_arrow
    if text_column not in schema.names:
        raise ParquetReadError(
            f"no column {text_column!r}; it has {', '.join(schema.names) or 'none'}"
        )
    kind = schema.field(text_column).type
    if not _is_text(kind):
        raise ParquetReadError(f"column {text_column!r} is {kind}, not text")
    return file


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
                columns = {name: _column_values(batch.column(name)) for name in names}
                yield RowBatch(first + done, _text_values(batch.column(text_column)), columns)
                done += batch.num_rows
        except (pa.ArrowException, OSError, ValueError) as error:
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
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):  # one broken value must not cost the others
        return [_scalar_value(item) for item in column]


def _scalar_value(item: pa.Scalar) -> Any:
    try:
        return item.as_py()
    except (ValueError, OverflowError):
        return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0][:300] or type(error).__name__
