"""Documents and their verdicts, collected row by row into Arrow tables."""

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from infra.dataset import ledger
from infra.dataset.stage import PartResult
from infra.schemas.documents import CHAPTERS_TYPE, DOCUMENT_SCHEMA

STAGE_NAME = "acquire"

Chapter = tuple[str, int]


class DocumentBuilder:
    """Collect rows of one source and segment until `flush` makes a part of them.

    Attributes:
        text_bytes: UTF-8 bytes of the kept texts so far.
    """

    def __init__(self, source: str, segment: str) -> None:
        self._source = source
        self._segment = segment
        self._reset()

    def _reset(self) -> None:
        self.text_bytes = 0
        self._texts: list[bytes] = []
        self._kept_fields: list[
            tuple[Any, ...]
        ] = []  # url, date, title, language, license, chapters
        self._ids: list[str] = []
        self._urls: list[str | None] = []
        self._reasons: list[str | None] = []
        self._failed: list[bool] = []
        self._evidence: list[Mapping[str, Any] | None] = []

    def __len__(self) -> int:
        """The number of documents added since the last flush, of any verdict."""
        return len(self._ids)

    def add(
        self,
        doc_id: str,
        text: bytes,
        *,
        url: str | None = None,
        date: str | None = None,
        title: str | None = None,
        language: str | None = None,
        license_: str | None = None,
        chapters: Sequence[Chapter] | None = None,
        evidence: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a document that is kept; `text` is valid UTF-8."""
        self._texts.append(text)
        self.text_bytes += len(text)
        self._kept_fields.append((url, date, title, language, license_, chapters))
        self._add_verdict(doc_id, url, None, evidence)

    def add_dropped(
        self, doc_id: str, reason: str, evidence: Mapping[str, Any], url: str | None = None
    ) -> None:
        """Add a document that a rule drops."""
        self._add_verdict(doc_id, url, reason, evidence)

    def add_failed(
        self, doc_id: str, reason: str, evidence: Mapping[str, Any], url: str | None = None
    ) -> None:
        """Add a document that cannot be read."""
        self._add_verdict(doc_id, url, reason, evidence, failed=True)

    def _add_verdict(
        self,
        doc_id: str,
        url: str | None,
        reason: str | None,
        evidence: Mapping[str, Any] | None,
        *,
        failed: bool = False,
    ) -> None:
        self._ids.append(doc_id)
        self._urls.append(url)
        self._reasons.append(reason)
        self._failed.append(failed)
        self._evidence.append(evidence)

    def flush(self) -> PartResult:
        """Return the kept documents, and a verdict for each row, since the last flush."""
        part = PartResult(
            rows=self._build_table(),
            verdicts=ledger.ledger_table(
                STAGE_NAME,
                self._ids,
                urls=self._urls,
                reasons=self._reasons,
                failed=self._failed,
                evidence=self._evidence,
            ),
        )
        self._reset()
        return part

    def _build_table(self) -> pa.Table:
        n = len(self._texts)
        ids = [
            identity
            for identity, reason in zip(self._ids, self._reasons, strict=True)
            if reason is None
        ]
        url, when, title, language, license_, chapters = (
            zip(*self._kept_fields, strict=True) if n else [()] * 6
        )
        columns = [
            pa.array(ids, pa.string()),
            text_array(self._texts),
            pa.array(url, pa.string()),
            pa.array(when, pa.string()),
            pa.repeat(pa.scalar(self._source, pa.string()), n),
            pa.array(title, pa.string()),
            pa.array(language, pa.string()),
            pa.array(license_, pa.string()),
            pa.repeat(pa.scalar(self._segment, pa.string()), n),
            pa.array(
                [None if c is None else [{"title": t, "start": s} for t, s in c] for c in chapters],
                CHAPTERS_TYPE,
            ),
        ]
        return pa.Table.from_arrays(columns, schema=DOCUMENT_SCHEMA)


def text_array(texts: Sequence[bytes]) -> pa.Array:
    """A large_string column of n UTF-8 texts, without Python strings."""
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in texts], out=offsets[1:])
    return pa.Array.from_buffers(
        pa.large_string(),
        len(texts),
        [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(texts))],
    )


_ISO_DATE = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?))?)?)?"
)


def iso_date(value: object) -> str | None:
    """A date as ISO 8601 text (year, month, day or time of day), or ``None`` if it is not one.

    Strings must be ISO 8601 already, to whatever precision; `date` and `datetime` are written out.
    """
    if isinstance(value, date | datetime):
        return value.isoformat()
    if not isinstance(value, str):
        return None
    match = _ISO_DATE.fullmatch(value.strip())
    if match is None:
        return None
    year, month, day, time = match.groups()
    try:
        date(int(year), int(month or 1), int(day or 1))
    except ValueError:
        return None
    return "-".join(part for part in (year, month, day) if part) + (f"T{time}" if time else "")
