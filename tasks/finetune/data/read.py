"""Files of examples: any format, to the columns of a task."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

import pyarrow as pa

from infra.formats.decompress import CorruptStreamError, decompress, detect_compression
from infra.schemas.examples import EXAMPLES, SOURCE, Task
from tasks.finetune.data.config import FORMATS, Format
from tasks.finetune.data.conll import read_conll, read_conll2012
from tasks.finetune.data.parallel import read_lines, read_mo, read_po, read_tmx
from tasks.finetune.data.records import BadValueError, DataFileError, Record, Rejection
from tasks.finetune.data.squad import read_squad
from tasks.finetune.data.tables import read_arrow, read_csv, read_json, read_jsonl, read_parquet
from tasks.finetune.data.to_example import COLUMNS, OPTIONAL_COLUMNS, ToExample

_SUFFIXES: Mapping[str, Format] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".tab": "tsv",
    ".parquet": "parquet", ".arrow": "arrow", ".conll": "conll", ".bio": "conll", ".iob": "conll",
    ".gold_conll": "conll2012", ".tmx": "tmx", ".po": "po", ".mo": "mo",
}  # fmt: skip
_PACKED = (".gz", ".zst")
_CATALOG = {"source": "msgid", "target": "msgstr"}
# Formats whose readers give the task's columns by their names, so that no column has to be named.
_OWN_COLUMNS: Mapping[Format, Task] = {
    "conll": "tagging", "conll2012": "tagging", "squad": "qa", "lines": "seq2seq",
}  # fmt: skip


@dataclass(frozen=True)
class ReadOptions:
    """How the files of an entry are read. Picklable.

    Attributes:
        format: of all files; ``None``: by the suffix of each.
        columns: the task's columns -> the files' columns; those that have the same name need no entry.
            Dots lead into objects (``translation.de``). Numbers, from 0, for CoNLL (negative ones count
            from the last column) and files without a header.
        header: whether CSV and TSV files have a first row with the names of their columns.
        delimiter: of the fields of CSV and TSV files; ``None``: a comma, a tab.
        encoding: of CSV, TSV.
        labels: classes that are allowed; empty: all that occur.
        label_separator: splits a text into several labels.
    """

    format: Format | None = None
    columns: Mapping[str, str] | None = None
    header: bool = True
    delimiter: str | None = None
    encoding: str = "utf-8"
    labels: Sequence[str] = ()
    label_separator: str | None = None


def read_examples(
    data: bytes,
    *,
    name: str,
    task: Task,
    options: ReadOptions,
    target: tuple[bytes, str] | None = None,
) -> tuple[pa.Table, list[Rejection]]:
    """Read a file as examples of a task.

    Args:
        data: the bytes of the file; gzip and zstd are unpacked.
        name: its base name, for its format and for messages.
        task: the task.
        options: how to read it.
        target: bytes and name of the second file of ``lines``.

    Returns:
        A table of the task's columns, ``SOURCE`` and ``row``, the number of each in the file, in its order; and
        every other row, with the reason. Both together are all rows of the file.

    Raises:
        DataFileError: if the file cannot be read, or has no row.
    """
    damage: list[Rejection] = []
    data, name = _unpack(data, name, damage)
    columns = dict(options.columns or {})
    _check_columns(columns, task, name)
    file_format = options.format or _detect_format(name, task, is_pair=target is not None)
    if _OWN_COLUMNS.get(file_format, task) != task:
        message = f"{name}: {file_format} holds examples of {_OWN_COLUMNS[file_format]}, not of {task}"
        raise DataFileError(message)
    to_example = ToExample(task, columns, options.labels, options.label_separator)
    if file_format == "lines":
        if target is None:
            raise DataFileError(f"{name}: lines of parallel text need a file of targets, too")
        second, second_name = _unpack(*target, damage)
        rows = read_lines(data, second, (name, second_name))
        to_example = ToExample(task, {}, (), None)
    else:
        reader = _choose_reader(file_format, columns, options)
        rows = reader(data, name)
        if file_format in ("po", "mo"):
            to_example = ToExample(task, {**_CATALOG, **columns}, (), None)
        elif file_format in ("conll", "conll2012"):
            to_example = ToExample(task, {}, options.labels, None)
    examples, numbers, rejected = [], [], []
    for row in rows:
        if isinstance(row, Rejection):
            rejected.append(row)
            continue
        try:
            examples.append(to_example(row))
            numbers.append(row.row)
        except BadValueError as error:
            rejected.append(Rejection(row.row, error.reason, str(error)))
    rejected.extend(damage)
    if not examples and not rejected:
        raise DataFileError(f"{name}: no example in it")
    delimiter = " or what divides fields under data.delimiter" if file_format in ("csv", "tsv") else ""
    _check_any_column(examples, rejected, f"name it under data.columns{delimiter}", name)
    table = pa.Table.from_pylist(examples, schema=pa.schema([*EXAMPLES[task], *SOURCE]))
    return table.append_column("row", pa.array(numbers, pa.int64())), rejected


def _unpack(data: bytes, name: str, damage: list[Rejection]) -> tuple[bytes, str]:
    """Unpack a compressed file; what a damaged one holds up to the damage is read."""
    magic = detect_compression(data)
    for suffix in _PACKED:  # also of a file that is not packed any more, as some downloads are
        name = name.removesuffix(suffix)
    if magic is None:
        return data, name
    pieces: list[bytes] = []
    try:
        pieces.extend(decompress(iter([data]), magic))
    except CorruptStreamError as error:
        # `extend` keeps what was yielded before the error.
        rest = b"".join(pieces)
        damage.append(Rejection(rest.count(b"\n") + 1, error.reason, str(error)))
        pieces = [rest[: rest.rfind(b"\n") + 1]]  # the last line is not whole
    return b"".join(pieces), name


def _check_columns(columns: Mapping[str, str], task: Task, name: str) -> None:
    known = (*COLUMNS[task], *OPTIONAL_COLUMNS.get(task, ()), *SOURCE.names)
    for column in columns:
        if column not in known:
            message = f"{name}: {task} has no column {column!r}; its columns are {', '.join(known)}"
            raise DataFileError(message)


def _detect_format(name: str, task: Task, *, is_pair: bool) -> Format:
    if is_pair:
        return "lines"
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == ".json" and task == "qa":
        return "squad"
    if suffix not in _SUFFIXES:
        message = f"{name}: its suffix names no format; set format to one of {', '.join(FORMATS)}"
        raise DataFileError(message)
    return _SUFFIXES[suffix]


def _choose_reader(
    file_format: Format, columns: Mapping[str, str], options: ReadOptions
) -> Callable[[bytes, str], Iterator[Record | Rejection]]:
    delimited = partial(read_csv, header=options.header, encoding=options.encoding)
    readers: Mapping[str, Callable[[bytes, str], Iterator[Record | Rejection]]] = {
        "jsonl": read_jsonl,
        "json": read_json,
        "csv": partial(delimited, delimiter=options.delimiter or ",", quoted=True),
        "tsv": partial(delimited, delimiter=options.delimiter or "\t", quoted=False),
        "parquet": read_parquet,
        "arrow": read_arrow,
        "conll2012": read_conll2012,
        "squad": read_squad,
        "tmx": read_tmx,
        "po": read_po,
        "mo": read_mo,
    }
    if file_format == "conll":
        numbers = {"words": "0", "tags": "-1", **columns}
        for column, number in numbers.items():
            if column not in ("words", "tags"):
                raise DataFileError(f"columns.{column}: CoNLL's columns are words and tags")
            if not number.removeprefix("-").isdecimal():
                raise DataFileError(f"columns.{column} is {number!r}; CoNLL's columns are numbers")
        return partial(read_conll, words=int(numbers["words"]), tags=int(numbers["tags"]))
    return readers[file_format]


def _check_any_column(
    examples: Sequence[object], rejected: Sequence[Rejection], remedy: str, name: str
) -> None:
    """A column that no row has is a mistake in the recipe, not in the rows."""
    missing = [row for row in rejected if row.reason == "missing_column"]
    if missing and not examples and len(missing) == len(rejected):
        raise DataFileError(f"{name}: {missing[0].message}; {remedy}")
