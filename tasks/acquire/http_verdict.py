"""The verdict on one HTTP response: a capture, or the reason why it is not one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.dataset.ledger import DROPPED, FAILED, KEPT
from infra.formats.warc import Capture

HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
TEXT_TYPES = frozenset({"text/plain"})
REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
_LOOKS_LIKE_HTML = re.compile(rb"<!doctype\s+html|<html|<head|<body", re.I)
_SNIFF_BYTES = 1024  # bytes searched where a server sends no Content-Type
_LICENSE_LINK = re.compile(r"<([^<>]+)>\s*;[^,]*\brel\s*=\s*\"?[^\";,]*\blicense\b", re.I)


@dataclass(frozen=True)
class FetchVerdict:
    """A verdict: `reason` is ``None`` for what is kept."""

    verdict: str = KEPT
    reason: str | None = None
    evidence: Mapping[str, Any] | None = None

    @property
    def kept(self) -> bool:
        """Whether the verdict is kept."""
        return self.verdict == KEPT


def dropped_verdict(reason: str, **evidence: Any) -> FetchVerdict:
    """The verdict of a rule that drops a page."""
    return FetchVerdict(DROPPED, reason, evidence or None)


def failed_verdict(reason: str, **evidence: Any) -> FetchVerdict:
    """The verdict on a page that could not be fetched or read."""
    return FetchVerdict(FAILED, reason, evidence or None)


def media_type(content_type: str | None) -> str:
    """The media type of a Content-Type header, lower case, without parameters."""
    return (content_type or "").split(";")[0].strip().lower()


def is_supported_type(content_type: str | None) -> bool:
    """Whether a response of this Content-Type, or of none, can be a capture."""
    kind = media_type(content_type)
    return not kind or kind in HTML_TYPES or kind in TEXT_TYPES


def is_html(capture: Capture) -> bool:
    """Whether a capture is a web page, by its Content-Type or, without one, by its first bytes."""
    kind = media_type(capture.get_header("Content-Type"))
    if kind:
        return kind in HTML_TYPES
    return _LOOKS_LIKE_HTML.search(capture.payload[:_SNIFF_BYTES]) is not None


def classify_response(capture: Capture, max_bytes: int) -> FetchVerdict:
    """Judge a response by itself; the caller handles redirects and robots directives.

    Args:
        capture: the response.
        max_bytes: a longer payload fails.
    """
    if capture.kind == "revisit":
        return dropped_verdict("revisit")
    if capture.status not in (200, 203):
        return failed_verdict(f"http_{capture.status}")
    if capture.decode_error is not None:
        return failed_verdict("bad_encoding", error=capture.decode_error)
    if not is_supported_type(capture.get_header("Content-Type")):
        return dropped_verdict(
            "content_type", content_type=media_type(capture.get_header("Content-Type"))
        )
    if len(capture.payload) > max_bytes:
        return failed_verdict("too_large", limit=max_bytes)
    if not media_type(capture.get_header("Content-Type")) and not is_html(capture):
        return dropped_verdict("content_type", content_type=None)
    return FetchVerdict()


def link_license(capture: Capture) -> str | None:
    """The license that a ``Link: <...>; rel="license"`` header names."""
    for value in capture.get_all_headers("Link"):
        match = _LICENSE_LINK.search(value)
        if match:
            return match.group(1).strip()
    return None
