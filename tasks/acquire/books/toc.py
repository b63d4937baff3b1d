"""An EPUB's table of contents (EPUB 3 navigation document or EPUB 2 NCX) as chapters."""

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from lxml import etree

from tasks.acquire.books.chapters import is_part_heading
from tasks.acquire.books.xhtml import XhtmlText
from tasks.acquire.document_builder import Chapter

# An entry of the contents that spans more of the text than this is the book, not a chapter.
WHOLE_BOOK_FRACTION = 0.8


@dataclass
class TocEntry:
    """An entry of the table of contents: `target` is a path in the archive and a fragment."""

    title: str
    target: tuple[str, str]  # path, fragment
    children: list["TocEntry"] = field(default_factory=list)


def resolve_href(base: str, href: str) -> tuple[str, str]:
    """A link inside the book: path in the archive, and fragment."""
    parts = urlsplit(href)
    path = posixpath.normpath(posixpath.join(base, unquote(parts.path))) if parts.path else ""
    return path, unquote(parts.fragment)


def nav_entries(root: etree._Element, base: str) -> Iterator[TocEntry]:
    """The top entries of a navigation document in the folder `base`."""
    navs = list(root.iter("{*}nav"))
    tocs = [n for n in navs if "toc" in n.get("{http://www.idpf.org/2007/ops}type", "").split()]
    for nav in (tocs or navs)[:1]:
        top = nav.find("./{*}ol")
        if top is not None:
            yield from _nav_level(top, base)


def _nav_level(level: etree._Element, base: str) -> Iterator[TocEntry]:
    for item in level.iterfind("./{*}li"):
        label = item.find("./{*}a")
        if label is None:
            label = item.find("./{*}span")
        below = item.find("./{*}ol")
        children = list(_nav_level(below, base)) if below is not None else []
        if label is not None:
            title = " ".join("".join(label.itertext()).split())
            href = label.get("href")
            target = (
                resolve_href(base, href) if href else children[0].target if children else ("", "")
            )
            yield TocEntry(title, target, children)
        else:
            yield from children


def ncx_entries(root: etree._Element, base: str) -> Iterator[TocEntry]:
    """The top entries of an NCX in the folder `base`."""
    top = root.find(".//{*}navMap")
    return _ncx_level(top, base) if top is not None else iter(())


def _ncx_level(level: etree._Element, base: str) -> Iterator[TocEntry]:
    for point in level.iterfind("./{*}navPoint"):
        label = point.find("./{*}navLabel/{*}text")
        content = point.find("./{*}content")
        target = resolve_href(base, content.get("src", "")) if content is not None else ("", "")
        title = " ".join((label.text or "").split()) if label is not None else ""
        yield TocEntry(title, target, list(_ncx_level(point, base)))


def toc_chapters(
    entries: list[TocEntry], pages: Mapping[str, XhtmlText], starts: Mapping[str, int], length: int
) -> list[Chapter]:
    """Titles of the table of contents with their offsets in the text, in reading order.

    Sections of chapters are left out. Entries below a part, or below an entry for the whole book, are
    included.

    Args:
        entries: the top entries.
        pages: the documents of the spine by path.
        starts: the character of the book's text at which each begins.
        length: characters of the book's text.
    """

    def find_offset(entry: TocEntry) -> int | None:
        path, fragment = entry.target
        page = pages.get(path)
        if page is None or not entry.title or not page.text:
            return None
        return starts[path] + page.anchors.get(fragment, 0)

    titles: dict[int, str] = {}

    def add_level(level: list[TocEntry], end: int) -> None:
        """Add the entries of a level; descend into parts, and into entries that span nearly the book."""
        offsets = [find_offset(entry) for entry in level]
        for number, (entry, start) in enumerate(zip(level, offsets, strict=True)):
            if start is not None:
                titles.setdefault(start, entry.title)
            after = next((p for p in offsets[number + 1 :] if p is not None), end)
            spans = start is not None and after - start > WHOLE_BOOK_FRACTION * length
            if is_part_heading(entry.title) or spans or len(level) == 1:
                add_level(entry.children, after)

    add_level(entries, length)
    return [(title, start) for start, title in sorted(titles.items())]
