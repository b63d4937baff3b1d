"""The verdict on a response, and the links and robots directives of an HTML page."""

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from infra.dataset.ledger import Verdict, dropped, failed
from infra.formats.urls import canonicalize_url
from infra.formats.warc import Capture
from tasks.acquire.http_response import REDIRECT_STATUSES, classify_response, is_html

log = logging.getLogger(__name__)

_LINK_TAGS = ("a", "area", "frame", "iframe", "meta")
_META_REFRESH = re.compile(
    r"^\s*[\d.]+\s*[;,]?\s*(?:url\s*=)?\s*['\"]?(.*?)['\"]?\s*$", re.I | re.S
)
_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]+)", re.I)
_VALUED_DIRECTIVES = ("unavailable_after",)


@dataclass(frozen=True)
class Page:
    """What the crawler uses of one HTML page.

    Attributes:
        links: canonical URLs of its links, sorted, each once; empty if it forbids following them.
        directives: the robots directives for this crawler, lower case, sorted.
    """

    links: tuple[str, ...] = ()
    directives: tuple[str, ...] = ()


def charset(content_type: str | None) -> str | None:
    """The charset parameter of a Content-Type header, if Python has a codec of that name."""
    match = _CHARSET.search(content_type or "")
    if match is None:
        return None
    try:
        "".encode(match.group(1))
    except (LookupError, ValueError):
        return None
    return match.group(1).lower()


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

    A redirect is dropped with its canonical target, ``None`` if that is not a web URL.

    Args:
        capture: the response.
        url: its canonical URL.
        product_token: this crawler's product token.
        max_bytes: a longer payload fails.
    """
    location = capture.get_header("Location")
    if capture.kind == "response" and capture.status in REDIRECT_STATUSES and location:
        return dropped("redirect", target=canonicalize_url(location, url)), Page()
    verdict = classify_response(capture, max_bytes)
    if not verdict.kept:
        return verdict, Page()
    page = Page(directives=parse_directives(capture.get_all_headers("X-Robots-Tag"), product_token))
    if is_html(capture):
        content_type = capture.get_header("Content-Type")
        try:
            page = parse_page(capture.payload, url, content_type, product_token, page.directives)
        except Exception as error:
            # One page must not end a crawl, and a page whose robots tags cannot be read is not kept.
            log.exception("reading %s", url)
            return failed("bad_html", error=type(error).__name__), Page()
    if forbids_index(page.directives):
        verdict = dropped("noindex", robots=", ".join(page.directives))
    return verdict, page


def parse_page(
    body: bytes,
    url: str,
    content_type: str | None,
    product_token: str,
    header_directives: Iterable[str] = (),
) -> Page:
    """The links and robots directives of an HTML page.

    Without a charset in the header, lxml follows the page's own declaration. Broken HTML is
    parsed as far as possible.

    Args:
        body: the page.
        url: its canonical URL.
        content_type: its Content-Type header.
        product_token: this crawler's product token.
        header_directives: the directives of X-Robots-Tag.
    """
    from lxml import etree

    name = charset(content_type)
    if name is not None:  # libxml2 supports fewer names than servers send
        body = body.decode(name, "replace").encode("utf-8", "replace")
    parser = etree.HTMLParser(
        encoding=None if name is None else "utf-8",
        recover=True,
        no_network=True,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(body, parser)
    except (etree.LxmlError, ValueError, LookupError):
        root = None
    if root is None:
        return Page(directives=tuple(sorted(set(header_directives))))
    directives = set(header_directives) | set(_meta_directives(root, product_token))
    if forbids_follow(directives):
        return Page(directives=tuple(sorted(directives)))
    return Page(tuple(sorted(_collect_links(root, url))), tuple(sorted(directives)))


def _meta_directives(root: Any, product_token: str) -> tuple[str, ...]:
    values = [
        meta.get("content") or ""
        for meta in root.iter("meta")
        if (meta.get("name") or "").strip().lower() in ("robots", product_token)
    ]
    return parse_directives((value.replace(":", " ") for value in values), product_token)


def _collect_links(root: Any, url: str) -> set[str]:
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
        link = canonicalize_url(target, base) if target else None
        if link is not None:
            out.add(link)
    return out
