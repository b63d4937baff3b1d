"""What a page says about where to go on, and about being kept: links, robots meta, licence."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tasks.acquire.web.scope import canonicalize_url

_LINK_TAGS = ("a", "area", "frame", "iframe", "meta")
_META_REFRESH = re.compile(
    r"^\s*[\d.]+\s*[;,]?\s*(?:url\s*=)?\s*['\"]?(.*?)['\"]?\s*$", re.I | re.S
)
_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]+)", re.I)
_VALUED_DIRECTIVES = ("unavailable_after",)


@dataclass(frozen=True)
class Page:
    """What the crawler needs of one HTML page.

    Attributes:
        links: canonical URLs the page leads to, sorted, each once; empty if it asks not to follow.
        directives: what robots meta tags say to this crawler, lower case, sorted.
    """

    links: tuple[str, ...] = ()
    directives: tuple[str, ...] = ()


def charset(content_type: str | None) -> str | None:
    """The charset parameter of a Content-Type header, if it names a codec Python has."""
    found = _CHARSET.search(content_type or "")
    if not found:
        return None
    try:
        "".encode(found.group(1))
    except (LookupError, ValueError):
        return None
    return found.group(1).lower()


def parse_directives(values: Iterable[str], product_token: str) -> tuple[str, ...]:
    """Robots directives addressed to this crawler or to all, from X-Robots-Tag headers.

    Args:
        values: the headers' values; ``"otherbot: noindex"`` speaks to otherbot only, and to it
            go the directives after it in the same header.
        product_token: this crawler's product token.

    Returns:
        Directives in lower case, sorted, each once.
    """
    out: set[str] = set()
    for value in values:
        mine = True
        for item in value.lower().split(","):
            name, colon, rest = (part.strip() for part in item.partition(":"))
            said = item
            if colon and name not in _VALUED_DIRECTIVES and not name.startswith("max-"):
                mine, said = name == product_token, rest
            if mine and said.strip():
                out.add(" ".join(said.split()))
    return tuple(sorted(out))


def forbids_index(directives: Iterable[str]) -> bool:
    """Whether directives ask not to keep the page."""
    return not {"noindex", "none"}.isdisjoint(directives)


def forbids_follow(directives: Iterable[str]) -> bool:
    """Whether directives ask not to follow the page's links."""
    return not {"nofollow", "none"}.isdisjoint(directives)


def parse_page(
    body: bytes,
    url: str,
    content_type: str | None,
    product_token: str,
    header_directives: Iterable[str] = (),
) -> Page:
    """The links and robots directives of an HTML page.

    Without a charset in the header, lxml follows the page's own declaration. Broken HTML gives
    what can be read of it.

    Args:
        body: the page.
        url: its canonical URL.
        content_type: its Content-Type header.
        product_token: this crawler's product token.
        header_directives: directives already known from X-Robots-Tag.
    """
    from lxml import etree

    name = charset(content_type)
    if name is not None:  # libxml2 knows fewer names than servers send
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
    found = set(header_directives) | set(_meta_directives(root, product_token))
    if forbids_follow(found):
        return Page(directives=tuple(sorted(found)))
    return Page(tuple(sorted(_collect_links(root, url))), tuple(sorted(found)))


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
            refresh = (element.get("http-equiv") or "").strip().lower() == "refresh"
            match = _META_REFRESH.match(element.get("content") or "") if refresh else None
            target = match.group(1) if match else None
        link = canonicalize_url(target, base) if target else None
        if link is not None:
            out.add(link)
    return out
