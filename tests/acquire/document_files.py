"""Read files of documents as the stage does, for its tests."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from infra.dataset.stage import PartResult
from infra.schemas.documents import DOCUMENT_SCHEMA
from tasks.acquire.documents import DocumentsSource
from tasks.acquire.source import read_unit

Found = tuple[pa.Table, list[dict[str, Any]]]


def source(*paths: Path, **changed: Any) -> DocumentsSource:
    return DocumentsSource(name="dump", kind="documents", paths=tuple(map(str, paths)), **changed)


def read_parts(section: DocumentsSource) -> list[PartResult]:
    return [part for unit in section.list_units() for part in read_unit(*unit.payload)]


def read(path: Path, data: bytes | None = None, **changed: Any) -> Found:
    """All documents of a file, and its verdicts with the evidence parsed."""
    if data is not None:
        path.write_bytes(data)
    found = read_parts(source(path, **changed))
    kept = pa.concat_tables([part.rows for part in found])
    kept.validate(full=True)
    assert kept.schema == DOCUMENT_SCHEMA
    verdicts = pa.concat_tables([part.verdicts for part in found]).to_pylist()
    for verdict in verdicts:
        verdict["evidence"] = json.loads(verdict["evidence"]) if verdict["evidence"] else None
    assert kept["id"].to_pylist() == [v["id"] for v in verdicts if v["verdict"] == "kept"]
    return kept, verdicts


def reasons(verdicts: list[dict[str, Any]]) -> list[str]:
    return [verdict["reason"] or "kept" for verdict in verdicts]


def row(text: object, **more: object) -> bytes:
    return json.dumps({"text": text, **more}).encode() + b"\n"
