"""Read the text of a few documents without reading the text of the others."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.dataset.dataset import TABLE_SUFFIX, Dataset, PartRef
from infra.dataset.step import Steps, steps_with_output
from infra.runs.run_records import RunRecord
from infra.schemas.captures import WARC_SUFFIX
from infra.store.storage import Storage

EXCERPT_CHARS = 600  # characters of an excerpt
MAX_HTML_BYTES = 1 << 16  # decoded of a page's HTML for an excerpt


@dataclass(frozen=True)
class Excerpt:
    """The beginning of a document.

    Attributes:
        text: its first characters.
        characters: length of the whole text; ``None`` if it was not counted.
        title: its title, where known.
        url: its address, where known.
        source: the source it came from.
        raw: whether this is HTML as fetched, because no text was extracted.
    """

    text: str
    characters: int | None
    title: str | None
    url: str | None
    source: str | None
    raw: bool = False


def open_datasets(storage: Storage, record: RunRecord, stages: Collection[str]) -> list[Dataset]:
    """Open the record's data sets of some stages, in its order; deleted ones are left out."""
    opened = [entry.try_open(storage) for entry in record.stages if entry.stage in stages]
    return [data for data in opened if data is not None]


def text_datasets(storage: Storage, record: RunRecord, steps: Steps) -> list[Dataset]:
    """Open the data sets that hold the documents' text before any rule is applied."""
    return [
        data
        for data in open_datasets(storage, record, steps_with_output(steps, "documents"))
        if any(has_column(part, "text") for part in data.parts[:1])
    ]


def has_column(part: PartRef, column: str) -> bool:
    """Return whether the part's table has a column; reads the file's footer only."""
    return column in _read_schema(part).names


def _read_schema(part: PartRef) -> pa.Schema:
    with part.storage.open(part.file(TABLE_SUFFIX)) as file:
        return pq.read_schema(file)


def find_rows(part: PartRef, ids: Collection[str]) -> list[int]:
    """Return the rows of a part's table whose id is one of ``ids``, ascending."""
    column = part.table(["id"])["id"]
    hit = pc.is_in(column, value_set=pa.array(sorted(ids), pa.string()))
    return [int(row) for row in np.flatnonzero(hit.to_numpy())]


def read_rows(part: PartRef, rows: Sequence[int], columns: Iterable[str]) -> list[dict[str, Any]]:
    """Read some rows of a part's table; only the row groups that hold them are read.

    Args:
        part: the part.
        rows: positions, ascending.
        columns: names; columns that the table lacks are left out.
    """
    result: list[dict[str, Any]] = []
    with part.storage.open(part.file(TABLE_SUFFIX)) as stream:
        file = pq.ParquetFile(stream)
        names = [name for name in columns if name in file.schema_arrow.names]
        start = 0
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            in_group = [row - start for row in rows if start <= row < start + size]
            if in_group:
                table = file.read_row_group(group, columns=names)
                result.extend(table.take(in_group).to_pylist())
            start += size
    return result


def load_texts(
    storage: Storage,
    record: RunRecord,
    ids: Collection[str],
    steps: Steps,
    max_chars: int = EXCERPT_CHARS,
) -> dict[str, Excerpt]:
    """Read the beginnings of documents, by id; those that no data set of the run holds are absent."""
    missing = set(ids)
    excerpts: dict[str, Excerpt] = {}
    for data in text_datasets(storage, record, steps):
        for part in data.parts:
            if not missing:
                return excerpts
            rows = find_rows(part, missing)
            for row in read_rows(part, rows, ("id", "text", "title", "url", "source")):
                text = row.get("text") or ""
                excerpts.setdefault(
                    row["id"],
                    Excerpt(
                        text[:max_chars],
                        len(text),
                        row.get("title"),
                        row.get("url"),
                        row.get("source") or data.source,
                    ),
                )
            missing -= excerpts.keys()
    return excerpts


def load_raw_pages(
    storage: Storage,
    record: RunRecord,
    ids: Collection[str],
    steps: Steps,
    max_chars: int = EXCERPT_CHARS,
) -> dict[str, Excerpt]:
    """Read the beginnings of pages as fetched, by id, for documents without extracted text."""
    missing = set(ids)
    excerpts: dict[str, Excerpt] = {}
    for data in open_datasets(storage, record, steps_with_output(steps, "documents")):
        for part in data.parts:
            if not missing:
                return excerpts
            if WARC_SUFFIX not in part.record.files or not has_column(part, "offset"):
                continue
            rows = find_rows(part, missing)
            for row in read_rows(part, rows, ("id", "url", "offset")):
                text = _decode_page(part, row["offset"])
                if text is not None:
                    excerpts[row["id"]] = Excerpt(
                        text[:max_chars], None, None, row.get("url"), data.source, raw=True
                    )
            missing -= excerpts.keys()
    return excerpts


def _decode_page(part: PartRef, offset: int) -> str | None:
    from infra.formats.warc import WarcReadError, read_capture

    try:
        with part.open(WARC_SUFFIX) as stream:
            return read_capture(stream, offset).payload[:MAX_HTML_BYTES].decode(errors="replace")
    except WarcReadError:
        return None


def parse_evidence(evidence: str | None) -> Mapping[str, Any]:
    """Decode the evidence of a ledger row; anything but a JSON object is returned as ``note``."""
    if evidence is None:
        return {}
    try:
        value = json.loads(evidence)
    except ValueError:
        return {"note": evidence}
    return value if isinstance(value, dict) else {"note": value}


def sanitize_line(text: str, *, keep_spaces: bool = False) -> str:
    """Return text as one line without control characters, safe to print to a terminal.

    Args:
        text: any text.
        keep_spaces: whether to keep runs of spaces.
    """
    plain = "".join(c if c.isprintable() else " " for c in text)
    return plain if keep_spaces else " ".join(plain.split())
