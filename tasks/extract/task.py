"""The stage `extract`: a source's captures to documents, part by part."""

import io
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.failure_limit import FailureLimit
from infra.dataset.fingerprint import json_sha256
from infra.dataset.ledger import Verdict, dropped, failed, verdict_table
from infra.dataset.stage import (
    Context,
    DatasetSpec,
    PartResult,
    Stage,
    WorkUnit,
    build_dataset,
)
from infra.formats import warc
from infra.schemas.captures import POSITION_COLUMNS, WARC_SUFFIX
from infra.schemas.documents import DOCUMENT_SCHEMA
from tasks.extract.config import ExtractConfig
from tasks.extract.page import ExtractedPage, ExtractRequest

STAGE_NAME = "extract"

STAGE = Stage(
    STAGE_NAME,
    modules=("tasks.extract.task", "tasks.extract.sandbox_worker"),
    libraries=("chardet", "fastwarc", "lxml", "resiliparse", "trafilatura"),
    failure_limit=FailureLimit(20, 0.9),  # pages can break a parser, but not nearly all pages
)


def spec(
    ctx: Context,  # noqa: ARG001 - every step has the same signature
    *,
    config: ExtractConfig,
    raw: Dataset,
    license: str | None = None,  # noqa: A002
) -> DatasetSpec:
    """What the documents are made from; `license` is for pages that name none."""
    return DatasetSpec(STAGE, raw.source, {**config.to_json(), "license": license}, (raw,))


def build(
    ctx: Context,
    spec: DatasetSpec,
    *,
    config: ExtractConfig,
    raw: Dataset,
    license: str | None = None,  # noqa: A002
) -> Dataset:
    """Extract every part that was not extracted before, and commit."""
    source = str(raw.source)
    units = [
        WorkUnit(_unit_key(source, part), (part, source, config, license), part.num_rows)
        for part in raw.parts
    ]
    return build_dataset(ctx, spec, units, extract_part)


def _unit_key(source: str, part: PartRef) -> str:
    """A digest of what a part's documents depend on: its table without the records' positions.

    The table has the payloads' digests, so that a page that was fetched again and is unchanged is
    not extracted again.
    """
    index = part.table()
    columns = [name for name in index.column_names if name not in POSITION_COLUMNS]
    return json_sha256({"source": source, "index": index.select(columns).to_pydict()})


def extract_part(
    part: PartRef,
    source: str,
    config: ExtractConfig,
    license: str | None,  # noqa: A002
) -> Iterator[PartResult]:
    """The documents of one part of captures, in its order."""
    from tasks.extract.sandbox import get_extractor

    index = part.table().to_pylist()
    archive = io.BytesIO(part.storage.read(part.file(WARC_SUFFIX))) if index else io.BytesIO()
    extract = get_extractor(config)
    rows: list[dict[str, Any]] = []
    verdicts: list[tuple[str, str | None, Verdict]] = []
    for entry in index:
        size = entry["payload_bytes"]
        if size > config.max_bytes:
            verdict = failed("too_large", bytes=size, limit=config.max_bytes)
        else:
            page = extract(_build_request(entry, archive))
            if not isinstance(page, ExtractedPage):
                verdict = failed(page[0], error=page[1])
            elif not page.text:
                verdict = dropped("empty", bytes=size, encoding=page.encoding)
            else:
                rows.append(_build_document(entry, page, source, license))
                replaced = {"encoding": page.encoding, "replaced": page.num_replaced}
                verdict = Verdict(evidence=replaced if page.num_replaced else None)
        verdicts.append((entry["id"], entry["url"], verdict))
    yield PartResult(
        pa.Table.from_pylist(rows, schema=DOCUMENT_SCHEMA), verdict_table(STAGE_NAME, verdicts)
    )


def _build_request(entry: dict[str, Any], archive: io.BytesIO) -> ExtractRequest:
    return ExtractRequest(
        warc.read_capture(archive, entry["offset"]).payload,
        entry["url"],
        entry["content_type"],
        entry["content_language"],
        entry["license_hint"],
    )


def _build_document(
    entry: dict[str, Any],
    page: ExtractedPage,
    source: str,
    license: str | None,  # noqa: A002
) -> dict[str, Any]:
    return {
        "id": entry["id"],
        "text": page.text,
        "url": entry["url"],
        "date": page.metadata.date,
        "source": source,
        "title": page.metadata.title,
        "language_hint": page.metadata.language,
        "license": page.metadata.license or license,
        "segment": entry["segment"],
        "chapters": None,
    }
