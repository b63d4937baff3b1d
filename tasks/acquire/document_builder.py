"""Documents and their verdicts, collected row by row into Arrow tables."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import numpy as np
import pyarrow as pa

from infra.dataset.ledger import Verdict, verdict_table
from infra.dataset.stage import PartResult
from infra.schemas.documents import DOCUMENT_SCHEMA
from tasks.acquire.source import STAGE_NAME

# A part ends when it has this many bytes of text or this many rows.
MAX_PART_BYTES, MAX_PART_ROWS = 64 << 20, 50_000

Chapter = tuple[str, int]  # title, and offset in the text


class DocumentBuilder:
    """Collect rows of one source and segment until `take_full` or `flush` makes a part of them."""

    def __init__(self, source: str, segment: str) -> None:
        self._source = source
        self._segment = segment
        self._reset()

    def _reset(self) -> None:
        self._text_bytes = 0
        self._texts: list[bytes] = []
        # The other columns of the kept documents, in the order of the schema.
        self._rows: list[tuple[Any, ...]] = []
        self._verdicts: list[tuple[str, str | None, Verdict]] = []

    def __len__(self) -> int:
        """The number of documents added since the last flush, of any verdict."""
        return len(self._verdicts)

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
        self._text_bytes += len(text)
        parts = None if chapters is None else [{"title": t, "start": s} for t, s in chapters]
        self._rows.append(
            (doc_id, url, date, self._source, title, language, license_, self._segment, parts)
        )
        self._verdicts.append((doc_id, url, Verdict(evidence=evidence)))

    def reject(self, doc_id: str, verdict: Verdict, url: str | None = None) -> None:
        """Add a document that is dropped or failed."""
        self._verdicts.append((doc_id, url, verdict))

    def take_full(self) -> Iterator[PartResult]:
        """Yield the part that has been collected if it has reached its size, and start a new one."""
        if self._text_bytes >= MAX_PART_BYTES or len(self) >= MAX_PART_ROWS:
            yield self.flush()

    def flush(self) -> PartResult:
        """Return the kept documents, and a verdict for each row, since the last flush."""
        part = PartResult(self._build_table(), verdict_table(STAGE_NAME, self._verdicts))
        self._reset()
        return part

    def _build_table(self) -> pa.Table:
        schema = DOCUMENT_SCHEMA.remove(DOCUMENT_SCHEMA.get_field_index("text"))
        values = zip(*self._rows, strict=True) if self._rows else [()] * len(schema)
        columns = {
            field.name: pa.array(column, field.type)
            for field, column in zip(schema, values, strict=True)
        }
        return pa.table({**columns, "text": text_array(self._texts)}, schema=DOCUMENT_SCHEMA)


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
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d(?::?\d\d)?)?))?)?)?"
)
_BASIC_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)(?=[T ]|$)")  # ISO 8601 without hyphens
_UTC = re.compile(r"(?<=\d) ?(?:UTC|GMT|z)\Z")  # as BigQuery and others name it
_SPACED_OFFSET = re.compile(r"(?<=\d) (?=[+-]\d\d:?\d\d\Z)")
_MAIL_DATE = re.compile(  # RFC 5322, as feeds have it
    r"(?:[A-Z][a-z]{2}, )?\d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d(?::\d\d)? (?:GMT|UT|UTC|Z|[+-]\d{4})"
)


def iso_date(value: object) -> str | None:
    """A date as ISO 8601 text (year, month, day or time of day), or ``None`` if it is not one.

    Strings must be ISO 8601 already, to whatever precision, or dates of mail and feeds; `date` and `datetime` are written out. A
    whole number of four digits is a year, one of eight a day (20240131).
    """
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(int(value)) if value == value // 1 else None
    if not isinstance(value, str):
        return None
    value = value.strip()
    if _MAIL_DATE.fullmatch(value):
        try:
            return parsedate_to_datetime(value).isoformat()
        except ValueError:
            return None
    value = _SPACED_OFFSET.sub("", _UTC.sub("Z", value))
    match = _ISO_DATE.fullmatch(_BASIC_DATE.sub(r"\1-\2-\3", value, count=1))
    if match is None:
        return None
    year, month, day, time = match.groups()
    try:
        date(int(year), int(month or 1), int(day or 1))
    except ValueError:
        return None
    return "-".join(part for part in (year, month, day) if part) + (f"T{time}" if time else "")
