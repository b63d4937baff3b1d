"""Tables as Parquet files: reading some columns, and bytes that depend on the rows alone."""

from collections.abc import Sequence
from contextlib import ExitStack

import pyarrow as pa
import pyarrow.parquet as pq

from infra.store.storage import Storage

# Rows of a row group in tables with and without texts. Fixed, since they decide a file's bytes.
TEXT_ROW_GROUP, NARROW_ROW_GROUP = 2_000, 100_000


def read_table(storage: Storage, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file of the storage.

    Raises:
        FileNotFoundError: if no file has this name.
        KeyError: if it lacks one of the columns.
    """
    path = storage.local_path(name)
    with ExitStack() as stack:
        source = stack.enter_context(storage.open(name)) if path is None else str(path)
        # One file, read by itself: pyarrow.parquet.read_table treats it as a data set of one, which
        # costs twice the time.
        file = stack.enter_context(pq.ParquetFile(source))
        for column in columns or ():
            if column not in file.schema_arrow.names:
                raise KeyError(f"{storage.url}/{name} has no column {column!r}")
        return file.read(columns=None if columns is None else list(columns), use_threads=False)


def table_bytes(table: pa.Table) -> bytes:
    """Serialize a table to Parquet bytes that depend on its values and schema alone."""
    text = any(pa.types.is_large_string(field.type) for field in table.schema)
    # Only short strings repeat: a dictionary of numbers, digests or texts costs time and saves nothing.
    names = [field.name for field in table.schema if pa.types.is_string(field.type)]
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.combine_chunks(),
        sink,
        compression="zstd",
        row_group_size=TEXT_ROW_GROUP if text else NARROW_ROW_GROUP,
        use_dictionary=names,
    )
    return bytes(sink.getvalue())
