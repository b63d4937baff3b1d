"""The verdict on one HTTP response: a capture, or the reason why it is not one."""

import re

from infra.dataset.ledger import Verdict, dropped, failed
from infra.formats.media_type import media_type
from infra.formats.warc import Capture

HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
_LOOKS_LIKE_HTML = re.compile(rb"<!doctype\s+html|<html|<head|<body", re.I)
_SNIFF_BYTES = 1024  # bytes searched where a server sends no Content-Type
_LICENSE_LINK = re.compile(r"<([^<>]+)>\s*;[^,]*\brel\s*=\s*\"?[^\";,]*\blicense\b", re.I)


def content_type(capture: Capture) -> str | None:
    """The Content-Type of a response: several headers are one, separated by commas."""
    return ", ".join(capture.get_all_headers("Content-Type")) or None


def is_supported_type(header: str | None) -> bool:
    """Whether a response of this Content-Type, or of none, can be a capture."""
    return media_type(header) in {"", "text/plain", *HTML_TYPES}


def is_html(capture: Capture) -> bool:
    """Whether a capture is a web page, by its Content-Type or, without one, by its first bytes."""
    kind = media_type(content_type(capture))
    if kind:
        return kind in HTML_TYPES
    return _LOOKS_LIKE_HTML.search(capture.payload[:_SNIFF_BYTES]) is not None


def classify_response(capture: Capture, max_bytes: int) -> Verdict:
    """Judge a response by itself; the caller handles redirects and robots directives.

    Args:
        capture: the response.
        max_bytes: a longer payload fails.
    """
    if capture.kind == "revisit":
        return dropped("revisit")
    if capture.status not in (200, 203):
        return failed(f"http_{capture.status}")
    if capture.decode_error is not None:
        return failed("bad_encoding", error=capture.decode_error)
    kind = media_type(content_type(capture))
    if not is_supported_type(kind):
        return dropped("content_type", content_type=kind)
    if len(capture.payload) > max_bytes:
        return failed("too_large", limit=max_bytes)
    if not kind and not is_html(capture):
        return dropped("content_type", content_type=None)
    return Verdict()


def link_license(capture: Capture) -> str | None:
    """The license that a ``Link: <...>; rel="license"`` header names."""
    matches = map(_LICENSE_LINK.search, capture.get_all_headers("Link"))
    return next((match.group(1).strip() for match in matches if match), None)
