"""A chapter's XHTML as text: block elements become paragraphs, and ids keep their place."""

import html
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from lxml import etree

_XHTML = "{http://www.w3.org/1999/xhtml}"
_OPS = "{http://www.idpf.org/2007/ops}"

_PARAGRAPHS = frozenset(
    "address article aside blockquote body center dd details div dl dt fieldset figcaption figure "
    "footer form h1 h2 h3 h4 h5 h6 header hgroup hr main ol p pre section table ul".split()
)
_LINES = frozenset("li tr caption option".split())
_SKIPPED = frozenset(
    "script style head template noscript svg math audio video canvas iframe object embed rt rp "
    "nav button input select textarea".split()
)
"""Elements without prose. `rt` and `rp` repeat in another script what the text says already."""
_SKIPPED_TYPES = frozenset(("pagebreak", "noteref", "toc", "landmarks", "page-list", "cover"))
_SKIPPED_CLASSES = frozenset(("pg-boilerplate", "toc"))
"""Project Gutenberg's class for its header and licence, and DocBook's for contents."""
_HEADINGS = frozenset(("h1", "h2", "h3", "h4"))

_SPACE = re.compile(r"[ \t\n\r\f]+")
_INVISIBLE = re.compile("[\u00ad\u200b\ufeff]")
_ENTITY = re.compile(rb"&([A-Za-z][A-Za-z0-9]{1,30});")
_XML_ENTITIES = frozenset((b"amp", b"lt", b"gt", b"quot", b"apos"))
_DECLARATION = re.compile(r"\s*<\?xml[^>]*\?>")


class BadXhtml(Exception):
    """A document that no parser can make sense of."""


@dataclass
class Rendering:
    """A document as text.

    Attributes:
        text: paragraphs apart by a blank line, lines of verse, lists and tables by a line break.
        anchors: the character at which each id's element begins.
        headings: the first heading (h1 to h4), and where it begins.
        links: characters of text inside links to elsewhere.
        repaired: whether it was not well-formed XML and was read as lenient HTML.
    """

    text: str = ""
    anchors: dict[str, int] = field(default_factory=dict)
    headings: list[tuple[str, int]] = field(default_factory=list)
    links: int = 0
    repaired: bool = False


def render(data: bytes) -> Rendering:
    """Read a chapter.

    Raises:
        BadXhtml: if it is empty or has no element at all.
    """
    root, repaired = _parse(data)
    writer = _Writer()
    for step in _walk(root):
        writer.take(*step)
    result = writer.finish()
    result.repaired = repaired
    return result


def _parse(data: bytes) -> tuple[etree._Element, bool]:
    """The root element, and whether it took the lenient parser."""
    if not data.strip():
        message = "empty"
        raise BadXhtml(message)
    strict = etree.XMLParser(
        resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True
    )
    with suppress(etree.XMLSyntaxError):
        return etree.fromstring(data, strict), False
    with suppress(etree.XMLSyntaxError):
        return etree.fromstring(_ENTITY.sub(_character, data), strict), False
    encoding = _encoding(data)
    lenient = etree.HTMLParser(
        encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True
    )
    try:
        text = _DECLARATION.sub("", data.decode(encoding, "replace"), count=1)
        root = etree.fromstring(text.encode(), lenient)
    except (etree.XMLSyntaxError, LookupError, ValueError) as error:
        raise BadXhtml(str(error)) from None
    return root, True


def _character(match: re.Match[bytes]) -> bytes:
    """A named entity of HTML as a numeric one, which XML knows without a DTD."""
    if match[1] in _XML_ENTITIES:
        return match[0]
    text = html.unescape(match[0].decode("ascii"))
    return match[0] if text.startswith("&") else b"".join(b"&#%d;" % ord(c) for c in text)


def _encoding(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    declared = re.search(rb"encoding\s*=\s*[\"']([\w.-]+)", data[:200])
    return declared[1].decode("ascii") if declared else "utf-8-sig"


Step = tuple[str, etree._Element | None, str]


def _walk(root: etree._Element) -> Iterator[Step]:
    """Elements and texts in document order: ("open" | "close" | "text", element, text).

    Goes without recursion: nesting is the file's to choose.
    """
    stack: list[tuple[bool, etree._Element]] = [(True, root)]
    while stack:
        opening, element = stack.pop()
        if not opening:
            yield "close", element, ""
            if element is not root and element.tail:
                yield "text", None, element.tail
            continue
        if not isinstance(element.tag, str):  # an entity reference; comments are not parsed
            if isinstance(element, etree._Entity):
                yield "text", None, html.unescape(str(element.text))
            if element.tail:
                yield "text", None, element.tail
            continue
        if _skipped(element):
            if element is not root and element.tail:
                yield "text", None, element.tail
            continue
        yield "open", element, ""
        if element.text:
            yield "text", None, element.text
        stack.append((False, element))
        stack.extend((True, child) for child in reversed(element))


def _name(element: etree._Element) -> str:
    tag = str(element.tag)
    return tag.rpartition("}")[2].lower() if not tag.startswith(_XHTML) else tag[len(_XHTML) :]


def _skipped(element: etree._Element) -> bool:
    if _name(element) in _SKIPPED or element.get("hidden") is not None:
        return True
    types = (element.get(f"{_OPS}type") or element.get("epub:type") or "").split()
    return not (
        _SKIPPED_TYPES.isdisjoint(types)
        and _SKIPPED_CLASSES.isdisjoint(element.get("class", "").split())
    )


class _Writer:
    """Puts text together; a break is only written when text follows it."""

    def __init__(self) -> None:
        self._out = Rendering()
        self._parts: list[str] = []
        self._length = 0
        self._break = 0  # line breaks due before the next text
        self._space = False  # a space is due before the next text of this line
        self._pre = 0
        self._links = 0
        self._waiting: list[str] = []  # ids whose element has shown no text yet
        self._heading: tuple[str, int] | None = None  # the open heading: its tag, where it began

    def take(self, kind: str, element: etree._Element | None, text: str) -> None:
        if kind == "text":
            self._text(text)
        elif element is not None:
            (self._open if kind == "open" else self._close)(element, _name(element))

    def finish(self) -> Rendering:
        self._out.text = "".join(self._parts)
        for name in self._waiting:
            self._out.anchors.setdefault(name, self._length)
        return self._out

    def _open(self, element: etree._Element, name: str) -> None:
        self._boundary(element, name)
        for key in (element.get("id"), element.get("name") if name == "a" else None):
            if key:
                self._waiting.append(key)
        if name == "br":
            self._line(1)
        elif name in ("td", "th"):
            self._space = True
        elif name == "pre":
            self._pre += 1
        elif name == "a" and element.get("href"):
            self._links += 1
        elif name in _HEADINGS and self._heading is None:
            self._heading = (name, -1)

    def _close(self, element: etree._Element, name: str) -> None:
        self._boundary(element, name)
        if name == "pre":
            self._pre -= 1
        elif name == "a" and element.get("href"):
            self._links -= 1
        elif self._heading is not None and name == self._heading[0]:
            start = self._heading[1]
            self._heading = None
            if start >= 0:
                title = " ".join("".join(self._parts)[start:].split())
                self._out.headings.append((title, start))

    def _boundary(self, element: etree._Element, name: str) -> None:
        if name in _LINES or "line" in element.get("class", "").split():
            self._line(1)
        elif name in _PARAGRAPHS:
            self._line(2)

    def _line(self, breaks: int) -> None:
        self._break = max(self._break, breaks)
        self._space = False

    def _text(self, text: str) -> None:
        text = _INVISIBLE.sub("", text).replace("\r\n", "\n")
        if self._pre:
            lines = text.replace("\u00a0", " ").split("\n")
            for number, line in enumerate(lines):
                if number:
                    self._line(2 if not lines[number - 1].strip() and number > 1 else 1)
                if line.strip():
                    self._write(line.rstrip())
            return
        # No-break spaces are of the page, not of the text; they do not collapse with others.
        words = _SPACE.sub(" ", text).replace("\u00a0", " ")
        if words.startswith(" "):
            self._space = True
        core = words.strip(" ")
        if core and (core.strip() or not self._break):
            self._write(core)
            self._space = words.endswith(" ")

    def _write(self, text: str) -> None:
        lead = ""
        if self._parts:
            lead = "\n" * self._break or (" " if self._space else "")
        self._break, self._space = 0, False
        self._parts.append(lead + text)
        start = self._length + len(lead)
        self._length = start + len(text)
        if self._links:
            self._out.links += len(text)
        for name in self._waiting:
            self._out.anchors.setdefault(name, start)
        self._waiting.clear()
        if self._heading is not None and self._heading[1] < 0:
            self._heading = (self._heading[0], start)
