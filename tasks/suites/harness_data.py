"""The files of a task's data for lm-evaluation-harness: a split is found in one form, whole, and read."""

import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from infra.formats.jsonl import InvalidRowError, parse_line
from infra.store.external_files import expand_globs, read_url
from infra.store.storage import StorageError
from tasks.suites.items import SuiteError

# After the name of the split: which of how many parts, with the digest that older data sets have there, and the format.
SPLIT_FILE = re.compile(
    r"(?:-(?P<part>\d+)-of-(?P<parts>\d+)(?:-[0-9a-f]{16})?)?\.(?P<format>jsonl|jsonl\.gz|parquet)"
)
SplitFiles = tuple[tuple[str, bytes], ...]  # names and contents, in order


def read_split(data: str, split: str, title: str) -> SplitFiles:
    """Return the files of a split in a folder or URL.

    Raises:
        SuiteError: if it is not there once and whole; ``title`` names the suite.
    """
    try:
        return tuple((_file_name(url), read_url(url)) for url in _find_split(data, split))
    except StorageError as error:
        raise SuiteError(
            f"{title}: data: the split {split!r} is needed, as {split}.jsonl or "
            f"{split}-00000-of-00001.parquet in {data!r}: {error}"
        ) from None


def _find_split(data: str, split: str) -> Sequence[str]:
    """Return the files of a split in order, all of one form: two forms would hold each row twice."""
    forms: dict[tuple[str, int], list[tuple[int, str]]] = {}
    for url in expand_globs([f"{data.rstrip('/')}/{split}[.-]*"]):
        match = SPLIT_FILE.fullmatch(_file_name(url).removeprefix(split))
        if match is not None:
            form = (match["format"], int(match["parts"] or 1))
            forms.setdefault(form, []).append((int(match["part"] or 0), url))
    if not forms:
        raise StorageError("no file of .jsonl, .jsonl.gz, .parquet")
    numbered = [item for files in forms.values() for item in sorted(files)]
    names = ", ".join(_file_name(url) for _, url in numbered)
    parts = next(iter(forms))[1]
    if len(forms) > 1 or len({part for part, _ in numbered}) < len(numbered):
        raise StorageError(f"it is there more than once, keep one of {names}")
    if [part for part, _ in numbered] != list(range(parts)):
        raise StorageError(f"of {parts} parts there are only {names}")
    return [url for _, url in numbered]


def _file_name(url: str) -> str:
    return PurePosixPath(urlsplit(url).path).name


def read_table(split: str, files: SplitFiles, title: str) -> pa.Table:
    """Return the rows of the files of a split; raises ``SuiteError``."""
    tables, where = [], split
    try:
        for where, data in files:
            if where.endswith(".parquet"):
                tables.append(pq.read_table(pa.BufferReader(data)))
                continue
            rows = list(_iter_rows(where, data))
            # The columns of a table are those of its first row.
            columns = dict.fromkeys(key for row in rows for key in row)
            tables.append(pa.Table.from_pylist([{**columns, **row} for row in rows]))
        where = f"the files of {split!r} differ"
        return pa.concat_tables(tables, promote_options="permissive")
    except (OSError, EOFError, zlib.error, pa.ArrowException, InvalidRowError) as error:
        message = str(error).splitlines()[0]
        raise SuiteError(f"{title}: data: {where}: {message}") from None


def _iter_rows(name: str, data: bytes) -> Iterator[dict[str, Any]]:
    text = gzip.decompress(data) if name.endswith(".gz") else data
    for number, line in enumerate(text.split(b"\n"), 1):
        if line.strip():
            try:
                yield parse_line(line.removeprefix(b"\xef\xbb\xbf"))
            except InvalidRowError as error:
                raise InvalidRowError(error.reason, f"line {number}: {error}") from None
