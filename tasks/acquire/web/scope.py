"""The canonical URLs that a crawl may visit, their hosts and origins."""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from infra.formats.urls import MAX_URL_LENGTH, canonicalize_url

__all__ = ["MAX_URL_LENGTH", "Scope", "canonicalize_url", "host", "origin"]


def origin(url: str) -> str:
    """Scheme, host and port of a canonical URL: the scope of one robots.txt."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def host(url: str) -> str:
    """The host name of a canonical URL: the scope of one crawl delay."""
    return urlsplit(url).hostname or ""


class Scope:
    """Which canonical URLs may be visited.

    Args:
        start: canonical start URLs.
        allow: patterns searched in a URL, one of which must match; empty means the start URLs'
            hosts and ports, whatever the scheme.
        deny: patterns none of which may match.
    """

    def __init__(
        self, start: Iterable[str], allow: Iterable[str] = (), deny: Iterable[str] = ()
    ) -> None:
        self._allow = [re.compile(pattern) for pattern in allow]
        self._deny = [re.compile(pattern) for pattern in deny]
        self._netlocs = {urlsplit(url).netloc for url in start}

    def __contains__(self, url: str) -> bool:
        """Whether a link to this canonical URL is followed."""
        if any(pattern.search(url) for pattern in self._deny):
            return False
        if self._allow:
            return any(pattern.search(url) for pattern in self._allow)
        return urlsplit(url).netloc in self._netlocs
