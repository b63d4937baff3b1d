"""Books: one document per EPUB or plain-text file, with its chapters.

Verdicts: ``empty_text`` drops a book without text (a picture book, a license alone).
Failures: ``empty_file`` (no bytes: a download that broke); ``too_large``;
``unsupported_format`` (a PDF, a web page); ``bad_epub``; ``drm``; ``bad_encoding``;
``reader_error`` (an unexpected error in our code, logged). The evidence of a kept book names its
format and encoding, and the chapters that were lost or repaired: a broken chapter does not fail the
book.
"""

import io
import logging
import unicodedata
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import ClassVar, Literal
from urllib.parse import quote

from pydantic import Field

from infra.dataset.fingerprint import document_id
from infra.dataset.ledger import dropped, failed
from infra.dataset.stage import PartResult
from infra.errors import UserError
from infra.formats.characters import is_blank
from infra.formats.charset import TextDecodeError, decode_text
from tasks.acquire.books import gutenberg, plaintext
from tasks.acquire.books.book import Book, BookError
from tasks.acquire.books.chapters import find_chapters
from tasks.acquire.books.epub import read_epub
from tasks.acquire.document_builder import Chapter, DocumentBuilder
from tasks.acquire.input_files import InputFile
from tasks.acquire.source import FileSource

log = logging.getLogger(__name__)

ZIP_MAGIC = b"PK\x03\x04"
# An EPUB's file may be this many times `max_book_bytes`: pictures and fonts are not unpacked.
ARCHIVE_SIZE_FACTOR = 8

_UNSUPPORTED_MAGIC = {
    b"%PDF": "PDF", b"{\\rtf": "RTF", b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xd0\xcf\x11\xe0": "DOC",
    b"<!doctype html": "HTML", b"<html": "HTML", b"<?xml": "XML", b"Rar!": "RAR", b"7z\xbc\xaf": "7z",
    b"version https://git-lfs": "a pointer of Git LFS (run git lfs pull)",
}  # fmt: skip
_MOBI_MAGIC = b"BOOKMOBI"  # at byte 60


class BooksSource(FileSource):
    """EPUB (.epub) and plain-text (.txt) books: one document per book, with its chapters."""

    kind: Literal["books"]
    license: str | None = Field(
        default=None, description="license of the books; null: the rights that a book states"
    )
    unwrap_lines: bool = Field(
        default=True,
        description=(
            "join the hard-wrapped lines of plain-text prose, so that a paragraph is one line; "
            "verse, tables and indented blocks keep theirs"
        ),
    )
    max_book_bytes: int = Field(
        default=64 << 20,
        ge=1,
        description="a longer text file, or an EPUB that unpacks to more, fails as too_large",
    )

    libraries: ClassVar[tuple[str, ...]] = ("chardet", "lxml")
    rows_per_file: ClassVar[int | None] = 1

    def read_file(self, file: InputFile) -> Iterator[PartResult]:
        """Read one book: one part of one row."""
        builder = DocumentBuilder(self.name, file.segment(self.name))
        try:
            self._add_book(builder, file, self._read_book(file))
        except BookError as error:
            identity = document_id(self.name, book_url(None, file.name), file.digest.encode())
            builder.reject(identity, failed(error.reason, file=file.name, **error.evidence))
        yield builder.flush()

    def _add_book(self, builder: DocumentBuilder, file: InputFile, book: Book) -> None:
        url = book_url(book.title, file.name)
        identity = document_id(self.name, url, file.digest.encode())
        evidence = {"file": file.name, **book.evidence}
        if is_blank(book.text):
            builder.reject(identity, dropped("empty_text", **evidence), url)
            return
        builder.add(
            identity,
            book.text.encode(),
            url=url,
            date=book.date,
            title=book.title,
            language=book.language,
            license_=self.license or book.rights,
            chapters=book.chapters,
            evidence=evidence,
        )

    def _read_book(self, file: InputFile) -> Book:
        """Read a book; an unexpected error fails this book, not the run."""
        try:
            return _read_file(file, self)
        except (BookError, UserError):
            raise
        except Exception as error:
            log.exception("%s could not be read", file.name)
            message = f"{type(error).__name__}: {error}"
            raise BookError("reader_error", message[:300]) from error


def book_url(title: str | None, file_name: str) -> str:
    """A book's URL: ``book:`` and its percent-encoded title, or its file's stem without one."""
    words = (title or PurePosixPath(file_name).stem).split()
    return "book:" + quote(unicodedata.normalize("NFC", " ".join(words)), safe="")


def _read_file(file: InputFile, source: BooksSource) -> Book:
    if file.size == 0:
        raise BookError("empty_file", "no bytes")
    epub = file.name.lower().endswith(".epub")
    limit = source.max_book_bytes * ARCHIVE_SIZE_FACTOR
    data = file.read(limit)
    if data is None:
        raise BookError("too_large", "the file is too large", bytes=file.size, limit=limit)
    if epub or data.startswith(ZIP_MAGIC):
        book = read_epub(io.BytesIO(data), source.max_book_bytes)
        text, chapters = _strip_gutenberg(book.text, book.chapters)
        if len(text) < len(book.text):
            book.text, book.chapters, book.gutenberg = text, chapters, True
        return book
    if file.size > source.max_book_bytes:
        limit = source.max_book_bytes
        raise BookError("too_large", "the text is too large", bytes=file.size, limit=limit)
    start = data[:64].lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    magics = (magic for magic in _UNSUPPORTED_MAGIC if start.startswith(magic.lower()))
    other = _UNSUPPORTED_MAGIC.get(next(magics, b""))
    if other or data[60:68] == _MOBI_MAGIC:
        message = f"{other or 'Mobipocket'}, neither EPUB nor plain text"
        raise BookError("unsupported_format", message)
    try:
        text, encoding = decode_text(data)
    except TextDecodeError as error:
        raise BookError("bad_encoding", f"{error}, at byte {error.offset}") from None
    return read_text(text, unwrap_lines=source.unwrap_lines, encoding=encoding)


def _strip_gutenberg(text: str, chapters: list[Chapter]) -> tuple[str, list[Chapter]]:
    """A text without Project Gutenberg's additions, its chapters moved accordingly."""
    lines = text.split("\n")
    body = gutenberg.strip_boilerplate(lines)
    if body.spans == [(0, len(lines))]:
        return text, chapters
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    parts: list[str] = []
    moved: list[Chapter] = []
    length = 0
    for first, last in body.spans:
        raw = text[starts[first] : starts[last] - 1]
        part = raw.strip("\n")
        if not part:
            continue
        begin = starts[first] + len(raw) - len(raw.lstrip("\n"))
        length += 2 if parts else 0
        for title, start in chapters:
            if begin <= start < begin + len(part):
                moved.append((title, length + start - begin))
        parts.append(part)
        length += len(part)
    return "\n\n".join(parts), moved


def read_text(text: str, *, unwrap_lines: bool, encoding: str) -> Book:
    """A plain-text book: Gutenberg's additions removed, lines joined, chapters detected."""
    unified = text.rstrip("\x1a").replace("\r\n", "\n").replace("\r", "\n")
    lines = unified.replace("\f", "\n\n").split("\n")
    body = gutenberg.strip_boilerplate(lines)
    blocks = [
        block for first, last in body.spans for block in plaintext.split_blocks(lines[first:last])
    ]
    wrapping = plaintext.WrapModel(blocks) if unwrap_lines else None
    starts: list[int] = []
    parts: list[str] = []
    length = 0
    for block in blocks:
        part = wrapping.unwrap(block) if wrapping else "\n".join(block.lines)
        starts.append(length)
        parts.append(part)
        length += len(part) + 2
    return Book(
        "text",
        "\n\n".join(parts),
        [(title, starts[number]) for title, number in find_chapters(blocks)],
        title=body.header.title,
        creators=list(body.header.authors),
        date=body.header.date,
        language=body.header.language,
        encoding=encoding,
        gutenberg=body.has_boilerplate,
    )
