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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from infra.dataset.fingerprint import document_id, json_sha256
from infra.dataset.stage import PartResult, WorkUnit
from infra.errors import UserError
from infra.formats.charset import TextDecodeError, decode_text
from tasks.acquire.books import gutenberg, plaintext
from tasks.acquire.books.chapters import find_chapters
from tasks.acquire.books.epub import DrmError, EpubReadError, EpubTooLargeError, read_epub
from tasks.acquire.config import BooksSource
from tasks.acquire.document_builder import Chapter, DocumentBuilder
from tasks.acquire.input_files import InputFile, list_files

MODULES = ("tasks.acquire.books.books",)
LIBRARIES = ("chardet", "lxml")

log = logging.getLogger(__name__)

ZIP_MAGIC = b"PK\x03\x04"
# An EPUB's file may be this many times `max_book_bytes`: pictures and fonts are not unpacked.
ARCHIVE_SIZE_FACTOR = 8

_UNSUPPORTED_MAGIC = {
    b"%PDF": "PDF", b"{\\rtf": "RTF", b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xd0\xcf\x11\xe0": "DOC",
    b"<!doctype html": "HTML", b"<html": "HTML", b"<?xml": "XML", b"Rar!": "RAR", b"7z\xbc\xaf": "7z",
}  # fmt: skip
_MOBI_MAGIC = b"BOOKMOBI"  # at byte 60


@dataclass(frozen=True)
class _BookText:
    """The content of a book, whatever its format."""

    text: str
    chapters: list[Chapter]
    title: str | None
    date: str | None
    language: str | None
    rights: str | None
    evidence: dict[str, Any] = field(default_factory=dict)


class _BookError(Exception):
    """A book that cannot be read: the reason and evidence of its failure."""

    def __init__(self, reason: str, evidence: Mapping[str, Any]) -> None:
        super().__init__(reason)
        self.reason = reason
        self.evidence = evidence


def fingerprint_config(source: BooksSource) -> dict[str, Any]:
    """The settings that decide the output, as JSON values; the paths do not."""
    return {
        key: value
        for key, value in source.to_json().items()
        if key not in ("name", "kind", "paths", "snapshot")
    }


def list_units(source: BooksSource) -> list[WorkUnit]:
    """One per file. Reads every file once, for its digest.

    Raises:
        UserError: if a pattern matches nothing or a file cannot be read.
    """
    return [
        WorkUnit(
            json_sha256({"file": file.digest, "name": file.name}), (file, source), expected_rows=1
        )
        for file in list_files(source.paths)
    ]


def read_book(file: InputFile, source: BooksSource) -> Iterator[PartResult]:
    """Read one book.

    Args:
        file: the book's file.
        source: its source.

    Yields:
        One part of one row.

    Raises:
        UserError: if the file has changed since the unit was made.
    """
    rows = DocumentBuilder(source.name, file.segment(source.name))
    content = file.digest.encode()
    try:
        book = _read_safely(file, source)
    except _BookError as failure:
        identity = document_id(source.name, book_url(None, file.name), content)
        rows.add_failed(identity, failure.reason, {"file": file.name, **failure.evidence})
        yield rows.flush()
        return
    url = book_url(book.title, file.name)
    identity = document_id(source.name, url, content)
    evidence = {"file": file.name, **book.evidence}
    if book.text.strip():
        rows.add(
            identity,
            book.text.encode(),
            url=url,
            date=book.date,
            title=book.title,
            language=book.language,
            license_=source.license or book.rights,
            chapters=book.chapters,
            evidence=evidence,
        )
    else:
        rows.add_dropped(identity, "empty_text", evidence, url)
    yield rows.flush()


def _read_safely(file: InputFile, source: BooksSource) -> _BookText:
    """Read a book; an unexpected error fails this book, not the run."""
    try:
        return _read_file(file, source)
    except (_BookError, UserError):
        raise
    except Exception as error:
        log.exception("%s could not be read", file.name)
        message = f"{type(error).__name__}: {error}"
        raise _BookError("reader_error", {"error": message[:300]}) from error


def book_url(title: str | None, file_name: str) -> str:
    """A book's URL: ``book:`` and its percent-encoded title, or its file's stem without one."""
    words = (title or PurePosixPath(file_name).stem).split()
    return "book:" + quote(unicodedata.normalize("NFC", " ".join(words)), safe="")


def _read_file(file: InputFile, source: BooksSource) -> _BookText:
    if file.size == 0:
        raise _BookError("empty_file", {"error": "no bytes"})
    epub = file.name.lower().endswith(".epub")
    data = file.read(source.max_book_bytes * ARCHIVE_SIZE_FACTOR)
    if data is None:
        limit = source.max_book_bytes * ARCHIVE_SIZE_FACTOR
        raise _BookError("too_large", {"bytes": file.size, "limit": limit})
    if epub or data.startswith(ZIP_MAGIC):
        return _read_epub(data, source)
    if len(data) > source.max_book_bytes:
        raise _BookError("too_large", {"bytes": len(data), "limit": source.max_book_bytes})
    start = data[:64].lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    other = next(
        (name for magic, name in _UNSUPPORTED_MAGIC.items() if start.startswith(magic.lower())),
        None,
    )
    if other or data[60:68] == _MOBI_MAGIC:
        message = f"{other or 'Mobipocket'}, neither EPUB nor plain text"
        raise _BookError("unsupported_format", {"error": message})
    try:
        text, encoding = decode_text(data)
    except TextDecodeError as error:
        raise _BookError("bad_encoding", {"error": f"{error}, at byte {error.offset}"}) from None
    return read_text(text, unwrap_lines=source.unwrap_lines, encoding=encoding)


def _read_epub(data: bytes, source: BooksSource) -> _BookText:
    try:
        book = read_epub(io.BytesIO(data), source.max_book_bytes)
    except EpubReadError as error:
        raise _BookError("bad_epub", {"error": str(error)}) from None
    except DrmError as error:
        raise _BookError("drm", {"error": str(error)}) from None
    except EpubTooLargeError as error:
        raise _BookError("too_large", {"error": str(error)}) from None
    evidence: dict[str, Any] = {"format": f"epub {book.version}".strip()}
    if book.creators:
        evidence["creators"] = book.creators
    if book.chapters_lost:
        evidence["chapters_lost"] = book.chapters_lost
    if book.chapters_repaired:
        evidence["chapters_repaired"] = book.chapters_repaired
    text, chapters = _strip_gutenberg(book.text, book.chapters)
    if len(text) < len(book.text):
        evidence["gutenberg"] = True
    return _BookText(text, chapters, book.title, book.date, book.language, book.rights, evidence)


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


def read_text(text: str, *, unwrap_lines: bool, encoding: str) -> _BookText:
    """A plain-text book: Gutenberg's additions removed, lines joined, chapters detected.

    Args:
        text: the file's text.
        unwrap_lines: whether to join hard-wrapped lines.
        encoding: the encoding of the file, for the evidence.
    """
    lines = (
        text.rstrip("\x1a")
        .replace("\r\n", "\n")
        .replace("\r", "\n")
        .replace("\f", "\n\n")
        .split("\n")
    )
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
    chapters = [(title, starts[number]) for title, number in find_chapters(blocks)]
    evidence: dict[str, Any] = {"format": "text", "encoding": encoding}
    if body.has_boilerplate:
        evidence["gutenberg"] = True
    if body.header.authors:
        evidence["creators"] = list(body.header.authors)
    header = body.header
    return _BookText(
        "\n\n".join(parts), chapters, header.title, header.date, header.language, None, evidence
    )
