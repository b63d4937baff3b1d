"""EPUB 2 and 3: a book's metadata, its chapters in reading order, and their titles."""

import posixpath
import zipfile
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from lxml import etree

from tasks.acquire.books.book import Book, BookError
from tasks.acquire.books.toc import TocEntry, nav_entries, ncx_entries, resolve_href, toc_chapters
from tasks.acquire.books.xhtml import XhtmlText, xhtml_to_text
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
_CONTENT_TYPES = frozenset(("application/xhtml+xml", "text/html", "application/x-dtbook+xml"))
_ENCRYPTED_FLAG = 0x1  # bit 0 of a zip member's flags


@dataclass(frozen=True)
class _ManifestItem:
    path: str
    media_type: str
    properties: frozenset[str]


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
            resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True
        )
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
    skipped = _skipped_guide_paths(package, posixpath.dirname(package_path)) | {navigation}
    spine = [path for path in _spine_paths(package, items) if path not in skipped]
    if not spine:
        raise BookError("bad_epub", f"{package_path}: its spine names no chapter")
    rendered = _read_chapters(archive, spine, book)
    if not rendered:
        first = book.chapters_lost[0]
        raise BookError(
            "bad_epub", f"no readable chapter; first: {first['file']}: {first['error']}"
        )
    starts = _join_chapters(rendered, book)
    entries = _read_contents(archive, navigation, ncx, book)
    book.chapters = toc_chapters(entries, rendered, starts, len(book.text)) or [
        (page.headings[0][0], starts[path] + page.headings[0][1])
        for path, page in rendered.items()
        if page.headings
    ]
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
            item.get("media-type", ""),
            frozenset(item.get("properties", "").split()),
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
    return {
        resolve_href(base, reference.get("href", ""))[0]
        for reference in package.iterfind(".//{*}guide/{*}reference")
        if reference.get("type", "").lower() in _SKIPPED_GUIDE
    }


def _spine_paths(package: etree._Element, items: dict[str, _ManifestItem]) -> list[str]:
    """Paths in reading order, each once: some books list a file once per section."""
    references = package.iterfind(".//{*}spine/{*}itemref")
    listed = [items.get(reference.get("idref", "")) for reference in references]
    return list(
        dict.fromkeys(
            i.path for i in listed if i and (i.media_type in _CONTENT_TYPES or not i.media_type)
        )
    )


def _read_chapters(archive: _Archive, spine: list[str], book: Book) -> dict[str, XhtmlText]:
    rendered: dict[str, XhtmlText] = {}
    for path in spine:
        try:
            page = xhtml_to_text(archive.read(path))
        except BookError as error:
            _record_loss(book, path, error)
            continue
        if page.link_chars >= TOC_MIN_LINK_CHARS and page.link_chars > TOC_LINK_FRACTION * len(
            page.text
        ):
            page = XhtmlText()  # an undeclared table of contents
        if page.repaired:
            book.chapters_repaired.append(path)
        rendered[path] = page
    return rendered


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
