"""The stage `extract`: a source's captures to documents, part by part."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.fingerprint import digest
from infra.dataset.ledger import verdicts
from infra.dataset.stage import Context, Outcome, Spec, Stage, Unit, build
from infra.dataset.step import Step
from infra.formats import warc
from tasks.extract.config import ExtractConfig
from tasks.extract.page import Page, Request

NAME = "extract"
_WARC = "warc.gz"
_POSITION = ("offset", "length")

STAGE = Stage(
    NAME,
    modules=("tasks.extract.task", "tasks.extract.sandbox_worker"),
    libraries=("fastwarc", "lxml", "resiliparse", "trafilatura"),
)

CHAPTERS = pa.list_(pa.struct([("title", pa.string()), ("start", pa.int64())]))

DOCUMENTS = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.large_string()),
        ("url", pa.string()),
        ("date", pa.string()),
        ("source", pa.string()),
        ("title", pa.string()),
        ("language_hint", pa.string()),
        ("license", pa.string()),
        ("segment", pa.string()),
        ("chapters", CHAPTERS),
    ]
)
"""The columns of a document, as every source gives them; pages have no chapters."""


def spec(
    ctx: Context,  # noqa: ARG001 - every step is asked in the same way
    *,
    config: ExtractConfig,
    raw: Dataset,
    license: str | None = None,  # noqa: A002
) -> Spec:
    """What the documents are made from.

    Args:
        ctx: the run.
        config: the recipe's section.
        raw: captures, as `acquire` commits them.
        license: the source's licence, for pages that name none.
    """
    return Spec(STAGE, raw.source, {**config.facts(), "license": license}, (raw,))


def run(
    ctx: Context,
    spec: Spec,
    *,
    config: ExtractConfig,
    raw: Dataset,
    license: str | None = None,  # noqa: A002
) -> Dataset:
    """Extracts every part that was not extracted before, and commits."""
    source = str(raw.source)
    units = [
        Unit(_key(source, part), (part, source, config, license), part.rows) for part in raw.parts
    ]
    return build(ctx, spec, units, extract_part)


def _key(source: str, part: PartRef) -> str:
    """What a part's documents depend on: its index, but not where a record lies in the archive.

    The index holds the payloads' digests, so that a page that was fetched again and found
    unchanged is not extracted again.
    """
    index = part.table()
    columns = [name for name in index.column_names if name not in _POSITION]
    return digest({"source": source, "index": index.select(columns).to_pydict()})


def extract_part(
    part: PartRef,
    source: str,
    config: ExtractConfig,
    license: str | None,  # noqa: A002
) -> Iterator[Outcome]:
    """The documents of one part of captures, in its order.

    Args:
        part: an index table with its archive.
        source: the source's name.
        config: the recipe's section.
        license: the source's licence.
    """
    from tasks.extract.sandbox import extractor

    index = part.table().to_pylist()
    archive = io.BytesIO(part.storage.read(part.file(_WARC))) if index else io.BytesIO()
    extract = extractor(config)
    rows: list[dict[str, Any]] = []
    reasons: list[str | None] = []
    failed: list[bool] = []
    evidence: list[dict[str, Any] | None] = []

    def verdict(reason: str | None, why: dict[str, Any] | None, *, broken: bool = False) -> None:
        reasons.append(reason)
        evidence.append(why)
        failed.append(broken)

    for entry in index:
        if entry["payload_bytes"] > config.max_bytes:
            why = {"bytes": entry["payload_bytes"], "limit": config.max_bytes}
            verdict("too_large", why, broken=True)
            continue
        found = extract(_request(entry, archive))
        if not isinstance(found, Page):
            verdict(found[0], {"error": found[1]}, broken=True)
        elif not found.text:
            verdict("empty", {"bytes": entry["payload_bytes"], "encoding": found.encoding})
        else:
            rows.append(_document(entry, found, source, license))
            odd = {"encoding": found.encoding, "replaced": found.replaced}
            verdict(None, odd if found.replaced else None)
    yield Outcome(
        pa.Table.from_pylist(rows, schema=DOCUMENTS),
        verdicts(
            NAME,
            [entry["id"] for entry in index],
            urls=[entry["url"] for entry in index],
            reasons=reasons,
            failed=failed,
            evidence=evidence,
        ),
    )


def _request(entry: dict[str, Any], archive: io.BytesIO) -> Request:
    return Request(
        warc.capture_at(archive, entry["offset"]).payload,
        entry["url"],
        entry["content_type"],
        entry["content_language"],
        entry["license_hint"],
    )


def _document(
    entry: dict[str, Any],
    page: Page,
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


extract = Step(NAME, spec, run)
