"""Captures gathered into parts: a WARC file, an index table and the ledger's rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from infra.dataset.fingerprint import document_id
from infra.dataset.ledger import FAILED, verdicts
from infra.dataset.stage import Outcome
from infra.formats import warc
from tasks.acquire.http_verdict import Fate, license_link

STAGE = "acquire"
WARC = "warc.gz"
"""Suffix of a part's archive."""

MAX_CAPTURES = 250
"""Captures in a part: enough to keep parts few, few enough to share a small site among workers."""

MAX_BYTES = 16_000_000
"""Payload bytes in a part (uncompressed: what a compressor makes of them must not move a border)."""

MAX_VERDICTS = 20_000
"""Ledger rows in a part: a crawl can leave far more addresses behind than it fetches."""

INDEX = pa.schema(
    [
        ("id", pa.string()),
        ("url", pa.string()),
        ("status", pa.int16()),
        ("content_type", pa.string()),
        ("content_language", pa.string()),
        ("robots_tag", pa.string()),
        ("license_hint", pa.string()),
        ("payload_digest", pa.string()),
        ("payload_bytes", pa.int64()),
        ("segment", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
    ]
)
"""One row per capture. `offset` and `length` are those of the record in the part's archive (one
gzip member); `payload_digest` is SHA-256 in hexadecimal."""

FORMAT = "WARC File Format 1.0"
CONFORMS_TO = "http://bibnum.bnf.fr/WARC/WARC_ISO_28500_version1_latestdraft.pdf"


def payload_digest(payload: bytes) -> str:
    """SHA-256 of a payload, as 64 hexadecimal characters."""
    return hashlib.sha256(payload).hexdigest()


class Parts:
    """Collects verdicts in the order given, and cuts them into parts.

    Args:
        source: the source's name.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._clear()

    def _clear(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._fates: list[tuple[str, str | None, Fate]] = []
        self._records: list[bytes] = []
        self._offset = self._payload = 0

    def __len__(self) -> int:
        """Verdicts collected since the last part."""
        return len(self._fates)

    @property
    def full(self) -> bool:
        """Whether the part should be taken now."""
        return (
            len(self._rows) >= MAX_CAPTURES
            or self._payload >= MAX_BYTES
            or len(self._fates) >= MAX_VERDICTS
        )

    def keep(self, capture: warc.Capture, url: str, *, robots: Sequence[str], segment: str) -> None:
        """Adds a capture that goes on.

        Args:
            capture: the answer.
            url: its canonical address.
            robots: directives that its headers and meta tags address to this crawler.
            segment: the segment it belongs to.
        """
        if not self._records:
            self._add_record(self._head())
        identity = document_id(self._source, url, capture.payload)
        record = warc.response(capture)
        self._rows.append(
            {
                "id": identity,
                "url": url,
                "status": capture.status,
                "content_type": capture.header("Content-Type"),
                "content_language": capture.header("Content-Language"),
                "robots_tag": ", ".join(robots) or None,
                "license_hint": license_link(capture),
                "payload_digest": payload_digest(capture.payload),
                "payload_bytes": len(capture.payload),
                "segment": segment,
                "offset": self._offset,
                "length": len(record),
            }
        )
        self._add_record(record)
        self._payload += len(capture.payload)
        self._fates.append((identity, url, Fate()))

    def reject(self, url: str | None, fate: Fate, content: bytes = b"") -> None:
        """Adds an address (or a file: no address) that does not go on, with the bytes it gave."""
        self._fates.append((document_id(self._source, url or "", content), url, fate))

    def take(self) -> Outcome:
        """The part collected so far; collecting begins anew."""
        if not self._records:
            self._add_record(self._head())
        fates = [fate for _, _, fate in self._fates]
        outcome = Outcome(
            pa.Table.from_pylist(self._rows, schema=INDEX),
            verdicts(
                STAGE,
                [identity for identity, _, _ in self._fates],
                urls=[url for _, url, _ in self._fates],
                reasons=[fate.reason for fate in fates],
                failed=[fate.verdict == FAILED for fate in fates],
                evidence=[fate.evidence for fate in fates],
            ),
            {WARC: b"".join(self._records)},
        )
        self._clear()
        return outcome

    def _add_record(self, record: bytes) -> None:
        self._records.append(record)
        self._offset += len(record)

    def _head(self) -> bytes:
        fields = (
            ("software", "gristmill"),
            ("format", FORMAT),
            ("conformsTo", CONFORMS_TO),
            ("isPartOf", self._source),
            ("robots", "classic"),
        )
        return warc.info(warc.now(), fields)
