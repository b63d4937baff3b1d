"""The verdict on a response, and the links and robots directives of an HTML page."""

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from infra.dataset.ledger import Verdict, dropped, failed
from infra.formats.charset import decode_page
from infra.formats.urls import canonicalize_url, redirect_target
from infra.formats.warc import Capture
from tasks.acquire.http_response import REDIRECT_STATUSES, classify_response, content_type, is_html

log = logging.getLogger(__name__)

_LINK_TAGS = ("a", "area", "frame", "iframe", "meta")
_WEB_ADDRESS = re.compile(r"(?:https?|ftps?)://", re.I)
_RESOURCE_LIMIT = 114  # lxml.etree.ErrorTypes.ERR_RESOURCE_LIMIT
_META_REFRESH = re.compile(
    r"^\s*[\d.]+\s*[;,]?\s*(?:url\s*=)?\s*['\"]?(.*?)['\"]?\s*$", re.I | re.S
)
_VALUED_DIRECTIVES = ("unavailable_after",)


@dataclass(frozen=True)
class Page:
    """What the crawler uses of one HTML page.

    Attributes:
        links: canonical URLs of its links, sorted, each once; empty if it forbids following them.
        directives: the robots directives for this crawler, lower case, sorted.
        limit: the limit of the parser behind which links are missing.
    """

    links: tuple[str, ...] = ()
    directives: tuple[str, ...] = ()
    limit: str | None = None


def parse_directives(values: Iterable[str], product_token: str) -> tuple[str, ...]:
    """Robots directives addressed to this crawler or to all, from X-Robots-Tag headers.

    Args:
        values: the headers' values; in ``"otherbot: noindex, nofollow"`` both directives are
            for otherbot only.
        product_token: this crawler's product token.

    Returns:
        Directives in lower case, sorted, each once.
    """
    out: set[str] = set()
    for value in values:
        mine = True
        for item in value.lower().split(","):
            name, colon, rest = (part.strip() for part in item.partition(":"))
            directive = item
            if colon and name not in _VALUED_DIRECTIVES and not name.startswith("max-"):
                mine, directive = name == product_token, rest
            if mine and directive.strip():
                out.add(" ".join(directive.split()))
    return tuple(sorted(out))


def forbids_index(directives: Iterable[str]) -> bool:
    """Whether directives forbid keeping the page."""
    return not {"noindex", "none"}.isdisjoint(directives)


def forbids_follow(directives: Iterable[str]) -> bool:
    """Whether directives forbid following the page's links."""
    return not {"nofollow", "none"}.isdisjoint(directives)


def judge_response(
    capture: Capture, url: str, product_token: str, max_bytes: int
) -> tuple[Verdict, Page]:
    """The verdict on a response, and the links and directives of a page that is kept.

    A redirect is dropped with its canonical target, ``None`` if that is not a web URL. A page that
    ends early is kept, as browsers show it; the evidence says so. Records that crawlers write about themselves (arguments, logs, screenshots) have addresses of other schemes.

    Args:
        capture: the response.
        url: its canonical URL.
        product_token: this crawler's product token.
        max_bytes: a longer payload fails.
    """
    if not _WEB_ADDRESS.match(url) or urlsplit(url).path == "/robots.txt":
        return dropped("not_a_page"), Page()
    location = capture.get_header("Location")
    if capture.kind == "response" and capture.status in REDIRECT_STATUSES and location:
        return dropped("redirect", target=redirect_target(location, url)), Page()
    verdict = classify_response(capture, max_bytes)
    if not verdict.kept:
        return verdict, Page()
    page = Page(directives=parse_directives(capture.get_all_headers("X-Robots-Tag"), product_token))
    if is_html(capture):
        header = content_type(capture)
        try:
            page = parse_page(capture.payload, url, header, product_token, page.directives)
        except Exception as error:
            # One page must not end a crawl, and a page whose robots tags cannot be read is not kept.
            log.exception("reading %s", url)
            return failed("bad_html", error=type(error).__name__), Page()
    if forbids_index(page.directives):
        verdict = dropped("noindex", robots=", ".join(page.directives))
    else:
        evidence = {"truncated": capture.truncated, "links_cut": page.limit}
        evidence = {key: value for key, value in evidence.items() if value is not None}
        verdict = Verdict(evidence=evidence or None)
    return verdict, page


def parse_page(
    body: bytes,
    url: str,
    content_type: str | None,
    product_token: str,
    header_directives: Iterable[str] = (),
) -> Page:
    """The links and robots directives of an HTML page.

    Broken HTML is parsed as far as possible.

    Args:
        body: the page.
        url: its canonical URL.
        content_type: its Content-Type header.
        product_token: this crawler's product token.
        header_directives: the directives of X-Robots-Tag.
    """
    from lxml import etree

    decoded = decode_page(body, content_type)
    parser = etree.HTMLParser(
        encoding="utf-8", huge_tree=True, no_network=True, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(decoded.text.encode(), parser)
    except (etree.LxmlError, ValueError):
        root = None
    last = parser.error_log.last_error
    limit = last.message if last is not None and last.type == _RESOURCE_LIMIT else None
    if root is None:
        return Page(directives=tuple(sorted(set(header_directives))), limit=limit)
    directives = set(header_directives) | set(_meta_directives(root, product_token))
    if forbids_follow(directives):
        return Page(directives=tuple(sorted(directives)), limit=limit)
    links = _collect_links(root, url, _query_encoding(decoded.encoding))
    return Page(tuple(sorted(links)), tuple(sorted(directives)), limit)


def _meta_directives(root: Any, product_token: str) -> tuple[str, ...]:
    values = [
        meta.get("content") or ""
        for meta in root.iter("meta")
        if (meta.get("name") or "").strip().lower() in ("robots", product_token)
    ]
    return parse_directives((value.replace(":", " ") for value in values), product_token)


def _query_encoding(name: str) -> str:
    """The encoding in which a page's queries are sent: its own, but UTF-8 for UTF-16 and UTF-32."""
    return "utf-8" if name.startswith("utf") else name


def _collect_links(root: Any, url: str, encoding: str) -> set[str]:
    base = url
    for element in root.iter("base"):
        if element.get("href"):
            base = canonicalize_url(element.get("href"), url) or url
            break
    out: set[str] = set()
    for element in root.iter(*_LINK_TAGS):
        if "nofollow" in (element.get("rel") or "").lower().split():
            continue
        target = element.get("href") or element.get("src")
        if element.tag == "meta":
            is_refresh = (element.get("http-equiv") or "").strip().lower() == "refresh"
            match = _META_REFRESH.match(element.get("content") or "") if is_refresh else None
            target = match.group(1) if match else None
        link = canonicalize_url(target, base, encoding) if target else None
        if link is not None:
            out.add(link)
    return out
