"""Captures collected into parts: a WARC file, the table of captures and the ledger's rows."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from infra.dataset.fingerprint import document_id
from infra.dataset.ledger import Verdict, verdict_table
from infra.dataset.stage import PartResult
from infra.formats import warc
from infra.schemas.captures import CAPTURE_SCHEMA, WARC_SUFFIX
from tasks.acquire.http_response import content_type, link_license
from tasks.acquire.source import STAGE_NAME

# Captures in a part: enough to keep parts few, few enough to spread a small site over the workers.
MAX_CAPTURES = 250

# Payload bytes in a part (uncompressed: what a compressor makes of them must not move a border).
MAX_BYTES = 16_000_000

# Ledger rows in a part: a crawl can discover far more URLs than it fetches.
MAX_VERDICTS = 20_000

_CONFORMS_TO = "http://bibnum.bnf.fr/WARC/WARC_ISO_28500_version1_latestdraft.pdf"


def payload_digest(payload: bytes) -> str:
    """SHA-256 of a payload, as 64 hexadecimal characters."""
    return hashlib.sha256(payload).hexdigest()


class CapturePartWriter:
    """Collect the captures and verdicts of one source, in the order given, into parts."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._warcinfo = (
            ("software", "gristmill"),
            ("format", "WARC File Format 1.0"),
            ("conformsTo", _CONFORMS_TO),
            ("isPartOf", source),
            ("robots", "classic"),
        )
        self._num_parts = 0
        self._reset()

    def _reset(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._verdicts: list[tuple[str, str | None, Verdict]] = []
        self._records = [warc.warcinfo_record(warc.current_warc_date(), self._warcinfo)]
        self._offset = len(self._records[0])
        self._payload_bytes = 0

    def take_full(self) -> Iterator[PartResult]:
        """Yield the part that has been collected if it has reached its size, and start a new one."""
        if (
            len(self._rows) >= MAX_CAPTURES
            or self._payload_bytes >= MAX_BYTES
            or len(self._verdicts) >= MAX_VERDICTS
        ):
            yield self._flush()

    def take_rest(self) -> Iterator[PartResult]:
        """Yield the last part if anything is left for it, or if there was no other."""
        if self._verdicts or self._num_parts == 0:
            yield self._flush()

    def add_capture(
        self,
        capture: warc.Capture,
        url: str,
        verdict: Verdict,
        *,
        robots: Sequence[str],
        segment: str,
    ) -> None:
        """Add a capture that is kept.

        Args:
            capture: the HTTP response.
            url: its canonical URL.
            verdict: why it is kept.
            robots: directives that its headers and meta tags address to this crawler.
            segment: the segment it belongs to.
        """
        identity = document_id(self._source, url, capture.payload)
        record = warc.response_record(capture)
        self._rows.append(
            {
                "id": identity,
                "url": url,
                "status": capture.status,
                "content_type": content_type(capture),
                "content_language": capture.get_header("Content-Language"),
                "robots_tag": ", ".join(robots) or None,
                "license_hint": link_license(capture),
                "payload_digest": payload_digest(capture.payload),
                "payload_bytes": len(capture.payload),
                "segment": segment,
                "offset": self._offset,
                "length": len(record),
            }
        )
        self._records.append(record)
        self._offset += len(record)
        self._payload_bytes += len(capture.payload)
        self._verdicts.append((identity, url, verdict))

    def add_rejected(self, url: str | None, verdict: Verdict, content: bytes = b"") -> None:
        """Add a URL (``None`` for a file) that is dropped or failed, with the bytes that it returned."""
        self._verdicts.append((document_id(self._source, url or "", content), url, verdict))

    def _flush(self) -> PartResult:
        part = PartResult(
            pa.Table.from_pylist(self._rows, schema=CAPTURE_SCHEMA),
            verdict_table(STAGE_NAME, self._verdicts),
            {WARC_SUFFIX: b"".join(self._records)},
        )
        self._num_parts += 1
        self._reset()
        return part
