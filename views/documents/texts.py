"""Read the text of a few documents without reading the text of the others."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.manifest import TABLE_SUFFIX
from infra.dataset.step import Steps, steps_with_output
from infra.removals.log import load_removals
from infra.removals.match import MATCH_COLUMNS, match_table
from infra.runs.run_records import RunRecord
from infra.schemas.captures import WARC_SUFFIX
from infra.store.storage import Storage

BATCH_ROWS = 1 << 16  # rows of narrow columns in memory at a time
EXCERPT_CHARS = 600  # characters of an excerpt
MAX_HTML_BYTES = 1 << 16  # decoded of a page's HTML for an excerpt


@dataclass(frozen=True)
class Excerpt:
    """The beginning of a document's text; of its HTML as fetched if ``raw``."""

    text: str
    title: str | None
    url: str | None
    source: str | None
    raw: bool


def open_datasets(storage: Storage, record: RunRecord, stages: Collection[str]) -> list[Dataset]:
    """Open the record's data sets of some stages, in its order; deleted ones are left out."""
    opened = [entry.try_open(storage) for entry in record.stages if entry.stage in stages]
    return [data for data in opened if data is not None]


def text_parts(storage: Storage, record: RunRecord, steps: Steps) -> list[PartRef]:
    """Return the parts that hold the documents' text before any rule is applied."""
    return [
        part
        for data in open_datasets(storage, record, steps_with_output(steps, "documents"))
        if data.parts and "text" in column_names(data.parts[0])
        for part in data.parts
    ]


def column_names(part: PartRef) -> list[str]:
    """Return the names of the columns of a part's table; reads the file's footer only."""
    with part.open(TABLE_SUFFIX) as file:
        return list(pq.read_schema(file).names)


def iter_tables(
    part: PartRef, suffix: str, columns: Sequence[str]
) -> Iterator[tuple[int, pa.Table]]:
    """Yield the rows of a part's file in batches, each with its first row."""
    start = 0
    with part.open(suffix) as stream:
        for batch in pq.ParquetFile(stream).iter_batches(BATCH_ROWS, columns=list(columns)):
            yield start, pa.Table.from_batches([batch])
            start += batch.num_rows


def find_rows(part: PartRef, ids: Iterable[str], suffix: str = TABLE_SUFFIX) -> list[int]:
    """Return the rows of a part's table, or ledger, whose id is one of ``ids``, ascending."""
    wanted = pa.array(sorted(ids), pa.string())
    rows: list[int] = []
    for start, table in iter_tables(part, suffix, ["id"]):
        hit = pc.is_in(table["id"], value_set=wanted).to_numpy()
        rows += (start + np.flatnonzero(hit)).tolist()
    return rows


def read_rows(
    part: PartRef, rows: Sequence[int], columns: Iterable[str], suffix: str = TABLE_SUFFIX
) -> list[dict[str, Any]]:
    """Read some rows of a part's table, or ledger; only the row groups that hold them are read.

    Args:
        part: the part.
        rows: positions, ascending.
        columns: names; columns that the table lacks are left out.
        suffix: of the file.
    """
    result: list[dict[str, Any]] = []
    if not rows:
        return result
    with part.open(suffix) as stream:
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


def load_excerpts(
    storage: Storage, record: RunRecord, ids: Collection[str], steps: Steps, *, raw: bool = False
) -> dict[str, Excerpt]:
    """Read the beginnings of documents, by id; those that no data set of the run holds are absent.

    Args:
        storage: the root of the store.
        record: the run.
        ids: of the documents.
        steps: the pipeline.
        raw: read pages as fetched, for documents without extracted text.
    """
    missing = set(ids)
    excerpts: dict[str, Excerpt] = {}
    for data in open_datasets(storage, record, steps_with_output(steps, "documents")):
        for part in data.parts:
            if not missing:
                return excerpts
            for row in _read_pages(part, missing) if raw else _read_texts(part, missing):
                source = row.get("source") or part.source
                excerpt = Excerpt(row["text"], row.get("title"), row.get("url"), source, raw)
                excerpts.setdefault(row["id"], excerpt)
            missing -= excerpts.keys()
    return excerpts


def _read_texts(part: PartRef, ids: Collection[str]) -> Iterator[dict[str, Any]]:
    if "text" in column_names(part):
        for row in read_rows(part, find_rows(part, ids), ("id", "text", "title", "url", "source")):
            yield {**row, "text": row["text"][:EXCERPT_CHARS]}


def _read_pages(part: PartRef, ids: Collection[str]) -> Iterator[dict[str, Any]]:
    from infra.formats.warc import WarcReadError, read_capture

    if WARC_SUFFIX not in part.record.files:
        return
    for row in read_rows(part, find_rows(part, ids), ("id", "url", "offset")):
        try:
            with part.open(WARC_SUFFIX) as stream:
                html = read_capture(stream, row["offset"]).payload[:MAX_HTML_BYTES]
        except WarcReadError:
            continue
        yield {**row, "text": html.decode(errors="replace")[:EXCERPT_CHARS]}


def find_removed(
    storage: Storage, record: RunRecord, documents: Mapping[str, str | None], steps: Steps
) -> set[str]:
    """Return the ids of the documents that an active removal matches: they must not be quoted.

    Args:
        storage: the root of the store.
        record: the run whose data sets hold the documents.
        documents: URLs by id.
        steps: the pipeline.

    Raises:
        CorruptRemovalLogError: if a record of removals cannot be read.
    """
    removals = load_removals(storage, record.recipe)
    if not removals or not documents:
        return set()
    rows: list[dict[str, Any]] = [{"id": key, "url": url} for key, url in documents.items()]
    for data in open_datasets(storage, record, steps_with_output(steps, "documents")):
        for part in data.parts:
            rows += read_rows(part, find_rows(part, documents), MATCH_COLUMNS)
    columns = {name: [row.get(name) for row in rows] for name in MATCH_COLUMNS}
    matches = match_table(pa.table(columns), removals)
    return {row["id"] for row, match in zip(rows, matches, strict=True) if match >= 0}


def parse_evidence(evidence: str | None) -> Mapping[str, Any]:
    """Decode the evidence of a ledger row, a JSON object."""
    value: dict[str, Any] = json.loads(evidence) if evidence is not None else {}
    return value


def sanitize_line(text: str, *, keep_spaces: bool = False) -> str:
    """Return text as one line without control characters, safe to print to a terminal."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return plain if keep_spaces else " ".join(plain.split())
