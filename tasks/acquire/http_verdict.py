"""What becomes of one HTTP answer: a capture, or a reason why not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.dataset.ledger import DROPPED, FAILED, KEPT
from infra.formats.warc import Capture

HTML = frozenset({"text/html", "application/xhtml+xml"})
TEXT = frozenset({"text/plain"})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LOOKS_LIKE_HTML = re.compile(rb"<!doctype\s+html|<html|<head|<body", re.I)
_SNIFFED = 1024  # bytes looked at where a server sends no Content-Type
_LICENSE_LINK = re.compile(r"<([^<>]+)>\s*;[^,]*\brel\s*=\s*\"?[^\";,]*\blicense\b", re.I)


@dataclass(frozen=True)
class Fate:
    """A verdict: `reason` is ``None`` for what is kept."""

    verdict: str = KEPT
    reason: str | None = None
    evidence: Mapping[str, Any] | None = None

    @property
    def kept(self) -> bool:
        """Whether it goes on."""
        return self.verdict == KEPT


def dropped(reason: str, **evidence: Any) -> Fate:
    """A rule said no."""
    return Fate(DROPPED, reason, evidence or None)


def failed(reason: str, **evidence: Any) -> Fate:
    """Something went wrong."""
    return Fate(FAILED, reason, evidence or None)


def mime(content_type: str | None) -> str:
    """The media type of a Content-Type header, lower case, without parameters."""
    return (content_type or "").split(";")[0].strip().lower()


def is_wanted(content_type: str | None) -> bool:
    """Whether an answer of this Content-Type can be a capture; one without can."""
    kind = mime(content_type)
    return not kind or kind in HTML or kind in TEXT


def is_html(capture: Capture) -> bool:
    """Whether a capture is a web page, by its Content-Type or, without one, by its first bytes."""
    kind = mime(capture.header("Content-Type"))
    if kind:
        return kind in HTML
    return _LOOKS_LIKE_HTML.search(capture.payload[:_SNIFFED]) is not None


def judge(capture: Capture, max_bytes: int) -> Fate:
    """The verdict on an answer as such; redirects and robots directives are the caller's.

    Args:
        capture: the answer.
        max_bytes: longest payload that is kept.
    """
    if capture.kind == "revisit":
        return dropped("revisit")
    if capture.status not in (200, 203):
        return failed(f"http_{capture.status}")
    if capture.fault is not None:
        return failed("bad_encoding", error=capture.fault)
    if not is_wanted(capture.header("Content-Type")):
        return dropped("content_type", content_type=mime(capture.header("Content-Type")))
    if len(capture.payload) > max_bytes:
        return failed("too_large", limit=max_bytes)
    if not mime(capture.header("Content-Type")) and not is_html(capture):
        return dropped("content_type", content_type=None)
    return Fate()


def license_link(capture: Capture) -> str | None:
    """The licence that a ``Link: <...>; rel="license"`` header names."""
    for value in capture.all("Link"):
        found = _LICENSE_LINK.search(value)
        if found:
            return found.group(1).strip()
    return None
