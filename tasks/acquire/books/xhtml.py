"""A chapter's XHTML as text: block elements become paragraphs, and ids become offsets."""

import html
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from lxml import etree

from infra.formats.characters import clean_markup, remove_control_characters
from infra.formats.charset import decode_page
from tasks.acquire.books.book import BookError

_XHTML = "{http://www.w3.org/1999/xhtml}"
_EPUB_OPS = "{http://www.idpf.org/2007/ops}"

_BLOCK_TAGS = frozenset(
    "address article aside blockquote body center dd details div dl dt fieldset figcaption figure "
    "footer form h1 h2 h3 h4 h5 h6 header hgroup hr main ol p pre section table ul".split()
)
_LINE_TAGS = frozenset("li tr caption option".split())
# Elements without prose. `rt` and `rp` repeat the text in another script.
_SKIPPED_TAGS = frozenset(
    "script style head template noscript svg math audio video canvas iframe embed rt rp "
    "button input select textarea".split()
)
_SKIPPED_TYPES = frozenset(("pagebreak", "noteref"))
_SKIPPED_CLASSES = frozenset(("pg-boilerplate",))  # Project Gutenberg's, for its header and license
# Contents and cover (`toc` is DocBook's class), and what stands for an object: no text unless it holds prose.
_LIST_TAGS = frozenset(("nav", "object"))
_LIST_TYPES = frozenset(("toc", "landmarks", "page-list", "cover"))
_LIST_CLASSES = frozenset(("toc",))
_HEADING_TAGS = frozenset(("h1", "h2", "h3", "h4"))

# Shorter text in what is declared as cover or contents is a title or an entry.
PROSE_MIN_CHARS = 60
_SENTENCE_END = re.compile(
    r"[.!?\u2026\u3002\uff01\uff1f\u0964\u061f]['\"\u2019\u201d\u00bb)]*\s*$"
)
_RESOURCE_LIMIT = 114  # lxml.etree.ErrorTypes.ERR_RESOURCE_LIMIT
_SPACE = re.compile(r"[ \t\n\r\f]+")
_INVISIBLE = re.compile("[\u00ad\u200b\ufeff]")
_ENTITY = re.compile(rb"&([A-Za-z][A-Za-z0-9]{1,30});")
_XML_ENTITIES = frozenset((b"amp", b"lt", b"gt", b"quot", b"apos"))
_XML_DECLARATION = re.compile(r"\s*<\?xml[^>]*\?>")


def is_prose(paragraph: str) -> bool:
    """Whether a paragraph is a sentence of at least `PROSE_MIN_CHARS` characters."""
    return len(paragraph) >= PROSE_MIN_CHARS and _SENTENCE_END.search(paragraph) is not None


@dataclass
class XhtmlText:
    """A document as text.

    Attributes:
        text: paragraphs separated by a blank line, lines of verse, lists and tables by a line break.
        anchors: the character at which each id's element begins.
        headings: the first heading (h1 to h4), and where it begins.
        link_chars: characters of text inside links to elsewhere.
        repaired: whether it was not well-formed XML and was read as lenient HTML.
        cut: the limit of the parser behind which text is missing.
    """

    text: str = ""
    anchors: dict[str, int] = field(default_factory=dict)
    headings: list[tuple[str, int]] = field(default_factory=list)
    link_chars: int = 0
    repaired: bool = False
    cut: str | None = None


def xhtml_to_text(data: bytes) -> XhtmlText:
    """Read a chapter.

    Raises:
        BookError: if it is empty or has no element at all.
    """
    root, repaired, cut = _parse(data)
    writer = _TextBuilder()
    for step in _iter_events(root):
        writer.add(*step)
    result = writer.finish()
    result.repaired, result.cut = repaired, cut
    return result


def _parse(data: bytes) -> tuple[etree._Element, bool, str | None]:
    """The root element, whether the lenient parser was needed, and the limit that it reached."""
    if not data.strip():
        raise BookError("bad_epub", "empty")
    strict = etree.XMLParser(
        resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True,
        huge_tree=True,
    )  # fmt: skip
    with suppress(etree.XMLSyntaxError):
        return etree.fromstring(data, strict), False, None
    with suppress(etree.XMLSyntaxError):
        return etree.fromstring(_ENTITY.sub(_to_numeric_entity, data), strict), False, None
    lenient = etree.HTMLParser(
        encoding="utf-8", no_network=True, remove_comments=True, remove_pis=True, huge_tree=True
    )
    try:
        text = _XML_DECLARATION.sub("", decode_page(data, None).text, count=1)
        root = etree.fromstring(clean_markup(text).encode(), lenient)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise BookError("bad_epub", str(error)) from None
    last = lenient.error_log.last_error
    limit = last.message if last is not None and last.type == _RESOURCE_LIMIT else None
    return root, True, limit


def _to_numeric_entity(match: re.Match[bytes]) -> bytes:
    """A named entity of HTML as a numeric one, which XML allows without a DTD."""
    if match[1] in _XML_ENTITIES:
        return match[0]
    text = html.unescape(match[0].decode("ascii"))
    return match[0] if text.startswith("&") else b"".join(b"&#%d;" % ord(c) for c in text)


_TreeEvent = tuple[str, etree._Element | None, str]


def _iter_events(root: etree._Element) -> Iterator[_TreeEvent]:
    """Elements and texts in document order: ("open" | "close" | "text", element, text).

    Not recursive: a file may nest elements to any depth.
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
        if _is_skipped(element):
            if _tag_name(element) == "math" and (formula := _formula_text(element)):
                yield "text", None, f" {formula} "
            if element is not root and element.tail:
                yield "text", None, element.tail
            continue
        yield "open", element, ""
        if element.text:
            yield "text", None, element.text
        stack.append((False, element))
        stack.extend((True, child) for child in reversed(element))


def _tag_name(element: etree._Element) -> str:
    tag = str(element.tag)
    return tag.rpartition("}")[2].lower() if not tag.startswith(_XHTML) else tag[len(_XHTML) :]


def _formula_text(math: etree._Element) -> str:
    """What MathML states as the text of a formula: its alttext, else a TeX annotation, else nothing."""
    notes = (a for a in math.iter("{*}annotation") if "tex" in a.get("encoding", "").lower())
    return (math.get("alttext") or next((a.text or "" for a in notes), "")).strip()


def _is_skipped(element: etree._Element) -> bool:
    name = _tag_name(element)
    if name in _SKIPPED_TAGS or element.get("hidden") is not None:
        return True
    types = (element.get(f"{_EPUB_OPS}type") or element.get("epub:type") or "").split()
    classes = element.get("class", "").split()
    if not (_SKIPPED_TYPES.isdisjoint(types) and _SKIPPED_CLASSES.isdisjoint(classes)):
        return True
    is_list = name in _LIST_TAGS or not (
        _LIST_TYPES.isdisjoint(types) and _LIST_CLASSES.isdisjoint(classes)
    )
    return is_list and not _holds_prose(element)


def _holds_prose(element: etree._Element) -> bool:
    """Whether an element has a paragraph, outside links, that `is_prose`."""
    texts = (item.text or "" for item in element.iter("{*}p", "{*}blockquote", "{*}pre"))
    return any(is_prose(" ".join(text.split())) for text in texts)


class _TextBuilder:
    """Concatenate text; a line break is written only when text follows it."""

    def __init__(self) -> None:
        self._result = XhtmlText()
        self._parts: list[str] = []
        self._length = 0
        self._pending_breaks = 0  # line breaks due before the next text
        self._pending_space = False  # a space is due before the next text of this line
        self._pre_depth = 0
        self._link_depth = 0
        self._pending_ids: list[str] = []  # ids whose element has no text so far
        self._open_heading: tuple[str, int] | None = None  # the open heading: its tag and offset

    def add(self, kind: str, element: etree._Element | None, text: str) -> None:
        if kind == "text":
            self._add_text(text)
        elif element is not None:
            (self._open if kind == "open" else self._close)(element, _tag_name(element))

    def finish(self) -> XhtmlText:
        self._result.text = "".join(self._parts)
        for name in self._pending_ids:
            self._result.anchors.setdefault(name, self._length)
        return self._result

    def _open(self, element: etree._Element, name: str) -> None:
        self._break_at_block(element, name)
        for key in (element.get("id"), element.get("name") if name == "a" else None):
            if key:
                self._pending_ids.append(key)
        if name == "br":
            self._add_break(1)
        elif name in ("td", "th"):
            self._pending_space = True
        elif name == "pre":
            self._pre_depth += 1
        elif name == "a" and element.get("href"):
            self._link_depth += 1
        elif name in _HEADING_TAGS and self._open_heading is None:
            self._open_heading = (name, -1)

    def _close(self, element: etree._Element, name: str) -> None:
        self._break_at_block(element, name)
        if name == "pre":
            self._pre_depth -= 1
        elif name == "a" and element.get("href"):
            self._link_depth -= 1
        elif self._open_heading is not None and name == self._open_heading[0]:
            start = self._open_heading[1]
            self._open_heading = None
            if start >= 0:
                title = " ".join("".join(self._parts)[start:].split())
                self._result.headings.append((title, start))

    def _break_at_block(self, element: etree._Element, name: str) -> None:
        if name in _LINE_TAGS or "line" in element.get("class", "").split():
            self._add_break(1)
        elif name in _BLOCK_TAGS:
            self._add_break(2)

    def _add_break(self, breaks: int) -> None:
        self._pending_breaks = max(self._pending_breaks, breaks)
        self._pending_space = False

    def _add_text(self, text: str) -> None:
        text = remove_control_characters(_INVISIBLE.sub("", text)).replace("\r\n", "\n")
        if self._pre_depth:
            lines = text.replace("\u00a0", " ").split("\n")
            for number, line in enumerate(lines):
                if number:
                    self._add_break(2 if not lines[number - 1].strip() and number > 1 else 1)
                if line.strip():
                    self._write(line.rstrip())
            return
        # No-break spaces are layout, not text; they do not collapse with others.
        words = _SPACE.sub(" ", text).replace("\u00a0", " ")
        if words.startswith(" "):
            self._pending_space = True
        core = words.strip(" ")
        if core and (core.strip() or not self._pending_breaks):
            self._write(core)
            self._pending_space = words.endswith(" ")

    def _write(self, text: str) -> None:
        lead = ""
        if self._parts:
            lead = "\n" * self._pending_breaks or (" " if self._pending_space else "")
        self._pending_breaks, self._pending_space = 0, False
        self._parts.append(lead + text)
        start = self._length + len(lead)
        self._length = start + len(text)
        if self._link_depth:
            self._result.link_chars += len(text)
        for name in self._pending_ids:
            self._result.anchors.setdefault(name, start)
        self._pending_ids.clear()
        if self._open_heading is not None and self._open_heading[1] < 0:
            self._open_heading = (self._open_heading[0], start)
