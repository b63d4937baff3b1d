"""The text of a few documents, found without reading the text of the others."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.dataset.dataset import (
    TABLE_SUFFIX,
    Dataset,
    DatasetNotFoundError,
    IntegrityError,
    PartRef,
)
from infra.runs.run_records import RunRecord
from infra.store.storage import Storage

EXCERPT_CHARS = 600  # characters of an excerpt
ACQUIRE, EXTRACT = "acquire", "extract"
WARC_FILE, OFFSET_COLUMN = "warc.gz", "offset"
MAX_HTML_BYTES = 1 << 16  # of a page's HTML that are decoded for an excerpt


@dataclass(frozen=True)
class Excerpt:
    """The beginning of a document.

    Attributes:
        text: its first characters.
        characters: how many it has in all; ``None`` if that was not counted.
        title: its title, where known.
        url: its address, where known.
        source: the source it came from.
        raw: whether this is HTML as fetched, because no text was made of it.
    """

    text: str
    characters: int | None
    title: str | None
    url: str | None
    source: str | None
    raw: bool = False


def open_datasets(storage: Storage, record: RunRecord, *stages: str) -> list[Dataset]:
    """The record's data sets of these stages (default: all) that are still there, in its order."""
    found = []
    for stage in record.stages:
        if not stages or stage.stage in stages:
            try:
                found.append(stage.open(storage))
            except (DatasetNotFoundError, IntegrityError):
                continue
    return found


def text_datasets(storage: Storage, record: RunRecord) -> list[Dataset]:
    """The data sets that hold the documents' text before any rule was applied."""
    return [
        data
        for data in open_datasets(storage, record, ACQUIRE, EXTRACT)
        if any(has_column(part, "text") for part in data.parts[:1])
    ]


def has_column(part: PartRef, column: str) -> bool:
    """Whether the part's table has a column; reads the file's footer only."""
    return column in _read_schema(part).names


def _read_schema(part: PartRef) -> pa.Schema:
    with part.storage.open(part.file(TABLE_SUFFIX)) as file:
        return pq.read_schema(file)


def find_rows(part: PartRef, ids: Collection[str]) -> list[int]:
    """The rows of a part's table whose id is one of these, in their order."""
    column = part.table(["id"])["id"]
    hit = pc.is_in(column, value_set=pa.array(sorted(ids), pa.string()))
    return [int(row) for row in np.flatnonzero(hit.to_numpy())]


def read_rows(part: PartRef, rows: Sequence[int], columns: Iterable[str]) -> list[dict[str, Any]]:
    """Some rows of a part's table, reading only the row groups that hold them.

    Args:
        part: the part.
        rows: positions, ascending.
        columns: those that the table lacks are left out.
    """
    found: list[dict[str, Any]] = []
    with part.storage.open(part.file(TABLE_SUFFIX)) as stream:
        file = pq.ParquetFile(stream)
        names = [name for name in columns if name in file.schema_arrow.names]
        start = 0
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            here = [row - start for row in rows if start <= row < start + size]
            if here:
                table = file.read_row_group(group, columns=names)
                found.extend(table.take(here).to_pylist())
            start += size
    return found


def load_texts(
    storage: Storage, record: RunRecord, ids: Collection[str], max_chars: int = EXCERPT_CHARS
) -> dict[str, Excerpt]:
    """The beginnings of documents by id; those that no data set of the record holds are absent."""
    wanted = set(ids)
    found: dict[str, Excerpt] = {}
    for data in text_datasets(storage, record):
        for part in data.parts:
            if not wanted:
                return found
            rows = find_rows(part, wanted)
            for row in read_rows(part, rows, ("id", "text", "title", "url", "source")):
                text = row.get("text") or ""
                found.setdefault(
                    row["id"],
                    Excerpt(
                        text[:max_chars],
                        len(text),
                        row.get("title"),
                        row.get("url"),
                        row.get("source") or data.source,
                    ),
                )
            wanted -= found.keys()
    return found


def load_raw_pages(
    storage: Storage, record: RunRecord, ids: Collection[str], max_chars: int = EXCERPT_CHARS
) -> dict[str, Excerpt]:
    """The beginnings of pages as fetched, by id, for documents that never became text."""
    wanted = set(ids)
    found: dict[str, Excerpt] = {}
    for data in open_datasets(storage, record, ACQUIRE):
        for part in data.parts:
            if not wanted:
                return found
            if WARC_FILE not in part.record.files or not has_column(part, OFFSET_COLUMN):
                continue
            rows = find_rows(part, wanted)
            for row in read_rows(part, rows, ("id", "url", OFFSET_COLUMN)):
                text = _decode_page(part, row[OFFSET_COLUMN])
                if text is not None:
                    found[row["id"]] = Excerpt(
                        text[:max_chars], None, None, row.get("url"), data.source, raw=True
                    )
            wanted -= found.keys()
    return found


def _decode_page(part: PartRef, offset: int) -> str | None:
    from infra.formats.warc import WarcReadError, read_capture

    try:
        with part.open(WARC_FILE) as stream:
            return read_capture(stream, offset).payload[:MAX_HTML_BYTES].decode(errors="replace")
    except WarcReadError:
        return None


def parse_evidence(evidence: str | None) -> Mapping[str, Any]:
    """A ledger row's evidence; text that is no JSON object stands under ``note``."""
    if evidence is None:
        return {}
    try:
        value = json.loads(evidence)
    except ValueError:
        return {"note": evidence}
    return value if isinstance(value, dict) else {"note": value}


def sanitize_line(text: str, *, keep_spaces: bool = False) -> str:
    """Text for a terminal: one line, and no character that a terminal would obey.

    Args:
        text: anything.
        keep_spaces: whether to leave spaces as they are.
    """
    plain = "".join(c if c.isprintable() else " " for c in text)
    return plain if keep_spaces else " ".join(plain.split())
