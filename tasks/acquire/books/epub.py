"""EPUB 2 and 3: a book's metadata, its chapters in reading order, and their titles."""

import posixpath
import zipfile
import zlib
from dataclasses import dataclass
from operator import itemgetter
from typing import BinaryIO

from lxml import etree

from tasks.acquire.books.book import Book, BookError
from tasks.acquire.books.toc import TocEntry, nav_entries, ncx_entries, resolve_href, toc_chapters
from tasks.acquire.books.xhtml import PROSE_MIN_CHARS, XhtmlText, is_prose, xhtml_to_text
from tasks.acquire.document_builder import iso_date

# Algorithms that scramble embedded fonts only (EPUB OCF, resource obfuscation; Adobe's own).
FONT_OBFUSCATION = frozenset(
    ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
)

# A spine document with more of its text than this inside links is a table of contents ...
TOC_LINK_FRACTION = 0.8

# ... provided that it has this many characters in links.
TOC_MIN_LINK_CHARS = 100

_SKIPPED_GUIDE = frozenset(("cover", "toc", "loi", "lot"))
# Of EPUB 3, EPUB 2, and (deprecated) OEB 1.2; the last two are wrong, but not ambiguous.
_CONTENT_TYPES = frozenset(
    ("", "application/xhtml+xml", "text/html", "application/x-dtbook+xml", "text/x-oeb1-document",
     "text/xml", "application/xml")
)  # fmt: skip
_ENCRYPTED_FLAG = 0x1  # bit 0 of a zip member's flags


@dataclass(frozen=True)
class _ManifestItem:
    path: str
    media_type: str
    properties: frozenset[str]
    fallback: str  # the id of the item to show instead


class _Archive:
    """A zip file whose members are read within a budget of bytes."""

    def __init__(self, file: BinaryIO, max_bytes: int) -> None:
        try:
            self._zip = zipfile.ZipFile(file)
            infos = self._zip.infolist()
        except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError) as error:
            raise BookError("bad_epub", f"not a readable zip file: {error}") from None
        self._members = {info.filename: info for info in infos}
        self._max_bytes = max_bytes
        self._remaining_bytes = max_bytes

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def read(self, name: str) -> bytes:
        """A member's bytes. Raises ``BookError`` (``bad_epub``, ``drm`` or ``too_large``)."""
        info = self._members.get(name)
        if info is None:
            raise BookError("bad_epub", f"{name}: missing")
        if info.flag_bits & _ENCRYPTED_FLAG:
            raise BookError("drm", f"{name}: encrypted in the zip file")
        try:
            # A member's declared size may be wrong: stop one byte after the limit.
            with self._zip.open(info) as member:
                data = member.read(self._remaining_bytes + 1)
        except (
            zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError
        ) as error:  # fmt: skip
            raise BookError("bad_epub", f"{name}: {str(error) or type(error).__name__}") from None
        self._remaining_bytes -= len(data)
        if self._remaining_bytes < 0:
            raise BookError("too_large", f"unpacks to more than {self._max_bytes} bytes ({name})")
        return data

    def read_xml(self, name: str) -> etree._Element:
        """Parse a member as XML. Raises ``BookError``."""
        parser = etree.XMLParser(
            resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True,
            huge_tree=True,
        )  # fmt: skip
        try:
            return etree.fromstring(self.read(name), parser)
        except etree.XMLSyntaxError as error:
            raise BookError("bad_epub", f"{name}: not well-formed: {error.msg}") from None


def read_epub(file: BinaryIO, max_bytes: int) -> Book:
    """Read a book; a chapter that cannot be read is in its `chapters_lost` and costs no other.

    Raises:
        BookError: if the container or package cannot be read, or no chapter at all (``bad_epub``); if
            its content is under DRM (``drm``); if it unpacks to more than `max_bytes` (``too_large``).
    """
    archive = _Archive(file, max_bytes)
    _check_drm(archive)
    package_path = _package_path(archive)
    package = archive.read_xml(package_path)
    book = Book(f"epub {package.get('version', '')}".strip())
    _read_metadata(package, book)
    items = _read_manifest(package, posixpath.dirname(package_path))
    navigation, ncx = _find_navigation(package, items)
    declared = _skipped_guide_paths(package, posixpath.dirname(package_path)) | {navigation}
    spine, fallbacks = _read_spine(package, items, book)
    if not spine and not book.chapters_lost:
        raise BookError("bad_epub", f"{package_path}: its spine names no chapter")
    rendered = _read_chapters(archive, spine, declared, book)
    if not rendered:
        first = book.chapters_lost[0]
        raise BookError(
            "bad_epub", f"no readable chapter; first: {first['file']}: {first['error']}"
        )
    starts = _join_chapters(rendered, book)
    entries = _read_contents(archive, navigation, ncx, book)
    replaced = {item: path for item, path in fallbacks.items() if path in rendered}
    pages = {**rendered, **{item: rendered[path] for item, path in replaced.items()}}
    starts |= {item: starts[path] for item, path in replaced.items()}
    book.chapters = toc_chapters(entries, pages, starts, len(book.text))
    # The contents may list no fallback: it is for readers that cannot show the item itself.
    for path in set(replaced.values()) if book.chapters else rendered:
        _add_heading(book, rendered[path], starts[path])
    return book


def _check_drm(archive: _Archive) -> None:
    for name, scheme in (("META-INF/license.lcpl", "LCP"), ("META-INF/sinf.xml", "FairPlay")):
        if name in archive:
            raise BookError("drm", f"{scheme} ({name})")
    if "META-INF/encryption.xml" not in archive:
        return
    for element in archive.read_xml("META-INF/encryption.xml").iter("{*}EncryptedData"):
        method = element.find("{*}EncryptionMethod")
        algorithm = method.get("Algorithm", "") if method is not None else ""
        if algorithm not in FONT_OBFUSCATION:
            reference = element.find(".//{*}CipherReference")
            target = reference.get("URI", "") if reference is not None else "?"
            raise BookError(
                "drm", f"{target} is encrypted with {algorithm or 'an unnamed algorithm'}"
            )


def _package_path(archive: _Archive) -> str:
    root = archive.read_xml("META-INF/container.xml")
    for element in root.iter("{*}rootfile"):
        path = element.get("full-path")
        if path and element.get("media-type") in (None, "application/oebps-package+xml"):
            return path
    raise BookError("bad_epub", "META-INF/container.xml: names no package file")


def _dc_texts(package: etree._Element, name: str) -> list[tuple[etree._Element, str]]:
    elements = package.iterfind(f".//{{http://purl.org/dc/elements/1.1/}}{name}")
    pairs = [(element, " ".join("".join(element.itertext()).split())) for element in elements]
    return [(element, text) for element, text in pairs if text]


def _read_metadata(package: etree._Element, book: Book) -> None:
    refined = {
        (meta.get("refines", "").lstrip("#"), meta.get("property")): (meta.text or "").strip()
        for meta in package.iterfind(".//{*}meta")
        if meta.get("refines")
    }
    titles = _dc_texts(package, "title")
    main = [text for e, text in titles if refined.get((e.get("id", ""), "title-type")) == "main"]
    book.title = next(iter(main or [text for _, text in titles]), None)
    book.creators = [text for _, text in _dc_texts(package, "creator")]
    book.language = next((text for _, text in _dc_texts(package, "language")), None)
    book.rights = next((text for _, text in _dc_texts(package, "rights")), None)
    dates = [
        (element.get("{http://www.idpf.org/2007/opf}event", "publication"), iso_date(text))
        for element, text in _dc_texts(package, "date")
    ]
    # Other events ("conversion", "modification") are dates of the file, not of the book.
    book.date = next((d for event, d in dates if d and event.startswith("publi")), None)


def _read_manifest(package: etree._Element, base: str) -> dict[str, _ManifestItem]:
    return {
        item.get("id", ""): _ManifestItem(
            resolve_href(base, item.get("href", ""))[0],
            item.get("media-type", "").partition(";")[0].strip().lower(),
            frozenset(item.get("properties", "").split()),
            item.get("fallback", ""),
        )
        for item in package.iterfind(".//{*}manifest/{*}item")
    }


def _find_navigation(package: etree._Element, items: dict[str, _ManifestItem]) -> tuple[str, str]:
    """Paths of the EPUB 3 navigation document and of the EPUB 2 NCX; empty if there is none."""
    navigation = next((item.path for item in items.values() if "nav" in item.properties), "")
    spine = package.find(".//{*}spine")
    named = items.get(spine.get("toc", "")) if spine is not None else None
    ncx = next((i.path for i in items.values() if i.media_type == "application/x-dtbncx+xml"), "")
    return navigation, named.path if named else ncx


def _skipped_guide_paths(package: etree._Element, base: str) -> set[str]:
    """Documents that the guide declares as cover or contents; a fragment is a place in another one."""
    targets = [
        resolve_href(base, reference.get("href", ""))
        for reference in package.iterfind(".//{*}guide/{*}reference")
        if reference.get("type", "").lower() in _SKIPPED_GUIDE
    ]
    return {path for path, fragment in targets if not fragment}


def _read_spine(
    package: etree._Element, items: dict[str, _ManifestItem], book: Book
) -> tuple[list[str], dict[str, str]]:
    """Paths in reading order, each once: some books list a file once per section.

    An item of a type without text is replaced by its fallback (EPUB 3.3, 3.5.1); without one it is lost.

    Returns:
        The paths, and the path of the fallback for that of each item that is replaced.
    """
    paths: list[str] = []
    fallbacks: dict[str, str] = {}
    for reference in package.iterfind(".//{*}spine/{*}itemref"):
        name = reference.get("idref", "")
        listed = item = items.get(name)
        seen: set[str] = set()
        while item is not None and item.media_type not in _CONTENT_TYPES:
            seen.add(item.path)
            item = items.get(item.fallback)
            if item is not None and item.path in seen:
                item = None
        if item is not None:
            paths.append(item.path)
            if listed is not None and item is not listed:
                fallbacks[listed.path] = item.path
        elif listed is not None:
            error = f"of type {listed.media_type}, without a fallback that is text"
            book.chapters_lost.append({"file": listed.path, "error": error})
        else:
            book.chapters_lost.append({"file": name, "error": "not in the manifest"})
    return list(dict.fromkeys(paths)), fallbacks


def _read_chapters(
    archive: _Archive, spine: list[str], declared: set[str], book: Book
) -> dict[str, XhtmlText]:
    """The documents of the spine; `declared` ones are cover or contents unless they hold text."""
    rendered: dict[str, XhtmlText] = {}
    for path in spine:
        try:
            page = xhtml_to_text(archive.read(path))
        except BookError as error:
            _record_loss(book, path, error)
            continue
        if page.cut is not None:
            message = f"text is missing behind a limit of the parser: {page.cut}"
            book.chapters_lost.append({"file": path, "error": message})
        unlinked = len(page.text) - page.link_chars
        lists_links = (
            page.link_chars >= TOC_MIN_LINK_CHARS
            and page.link_chars > TOC_LINK_FRACTION * len(page.text)
        )
        if lists_links or (path in declared and not _has_prose(page)):
            message = (
                f"left out as contents: {page.link_chars} of {len(page.text)} characters are links"
            )
            if path in declared:
                message = "left out as cover or contents"
            if path not in declared or unlinked >= PROSE_MIN_CHARS:
                book.chapters_lost.append({"file": path, "error": message})
            page = XhtmlText()
        if page.repaired:
            book.chapters_repaired.append(path)
        rendered[path] = page
    return rendered


def _has_prose(page: XhtmlText) -> bool:
    """Whether a document has a sentence outside links."""
    unlinked = len(page.text) - page.link_chars
    return unlinked >= PROSE_MIN_CHARS and any(map(is_prose, page.text.split("\n")))


def _record_loss(book: Book, path: str, error: BookError) -> None:
    if error.reason != "bad_epub":
        raise error
    book.chapters_lost.append({"file": path, "error": str(error).removeprefix(f"{path}: ")})


def _join_chapters(pages: dict[str, XhtmlText], book: Book) -> dict[str, int]:
    """Join the texts of the chapters; return where each begins."""
    starts: dict[str, int] = {}
    parts: list[str] = []
    length = 0
    for path, page in pages.items():
        text = page.text
        if text and parts:
            parts.append("\n\n")
            length += 2
        starts[path] = length
        if text:
            parts.append(text)
            length += len(text)
    book.text = "".join(parts)
    return starts


def _add_heading(book: Book, page: XhtmlText, start: int) -> None:
    """Make a document a chapter by its first heading, unless it has a chapter already."""
    end = start + len(page.text)
    if page.headings and not any(start <= offset < end for _, offset in book.chapters):
        title, offset = page.headings[0]
        book.chapters = sorted([*book.chapters, (title, start + offset)], key=itemgetter(1))


def _read_contents(archive: _Archive, navigation: str, ncx: str, book: Book) -> list[TocEntry]:
    for path, reader in ((navigation, nav_entries), (ncx, ncx_entries)):
        if not path:
            continue
        try:
            entries = list(reader(archive.read_xml(path), posixpath.dirname(path)))
        except BookError as error:
            _record_loss(book, path, error)
            continue
        if entries:
            return entries
    return []
