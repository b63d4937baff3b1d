"""The books: five public-domain works, four as their plain text and one as an EPUB."""

import re
import zipfile
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import IO

from examples.quickstart.pins import BROTLI, SENTENCEPIECE, Pin
from infra.download.pypi import iter_archive

TEXTS: tuple[tuple[Pin, str, str], ...] = (
    (BROTLI, "brotli-1.2.0/tests/testdata/asyoulik.txt", "as-you-like-it.txt"),
    (BROTLI, "brotli-1.2.0/tests/testdata/lcet10.txt", "workshop-on-electronic-texts.txt"),
    (BROTLI, "brotli-1.2.0/tests/testdata/plrabn12.txt", "paradise-lost.txt"),
    (SENTENCEPIECE, "sentencepiece-0.2.1/test/botchan.txt", "botchan.txt"),
)
ALICE = (BROTLI, "brotli-1.2.0/tests/testdata/alice29.txt", "alice-in-wonderland.epub")

_CHAPTER = re.compile(r"^ +CHAPTER ([IVXL]+)\n+ +(\S.*)\n", re.M)
_EPOCH = (2000, 1, 1, 0, 0, 0)  # a fixed time, so that the same text makes the same EPUB


def build_books(folder: Path) -> int:
    """Write the books into a new folder.

    Returns:
        The number of books.
    """
    folder.mkdir(parents=True)
    wanted = {(pin, member): target for pin, member, target in (*TEXTS, ALICE)}
    for pin in {pin for pin, _ in wanted}:
        for name, content in iter_archive(pin.fetch()):
            target = wanted.pop((pin, name), None)
            if target is None:
                continue
            if target.endswith(".epub"):
                with (folder / target).open("wb") as out:
                    _alice_epub(content.decode("ascii").replace("\r\n", "\n"), out)
            else:
                (folder / target).write_bytes(content)
    if wanted:
        raise FileNotFoundError(f"not in its archive: {sorted(m for _, m in wanted)}")
    return len(TEXTS) + 1


def _alice_epub(text: str, out: IO[bytes]) -> None:
    """The text as an EPUB 3 of one file per chapter; nothing of it is left out or changed."""
    headings = list(_CHAPTER.finditer(text))
    ends = [*(heading.start() for heading in headings[1:]), len(text)]
    chapters = [
        (f"Chapter {heading[1]}. {heading[2].strip()}", text[heading.end() : end])
        for heading, end in zip(headings, ends, strict=True)
    ]
    write_epub(
        out,
        title="Alice's Adventures in Wonderland",
        author="Lewis Carroll",
        language="en",
        identifier="urn:gristmill:quickstart:alice29",
        rights="public-domain",
        chapters=chapters,
    )


def write_epub(
    out: IO[bytes],
    *,
    title: str,
    author: str,
    language: str,
    identifier: str,
    rights: str,
    chapters: Sequence[tuple[str, str]],
) -> None:
    """Write a small, valid EPUB 3 (https://www.w3.org/TR/epub-33/); same input, same bytes.

    Args:
        out: an open file.
        title: dc:title.
        author: dc:creator.
        language: dc:language, a BCP 47 tag.
        identifier: dc:identifier, a URI.
        rights: dc:rights.
        chapters: (heading, text); an empty line ends a paragraph of the text.
    """
    names = [f"chapter-{number:02}.xhtml" for number in range(1, len(chapters) + 1)]
    manifest = "".join(
        f'<item id="c{i}" href="{name}" media-type="application/xhtml+xml"/>'
        for i, name in enumerate(names)
    )
    spine = "".join(f'<itemref idref="c{i}"/>' for i in range(len(names)))
    contents = "".join(
        f'<li><a href="{name}">{escape(heading)}</a></li>'
        for name, (heading, _) in zip(names, chapters, strict=True)
    )
    package = (
        '<?xml version="1.0" encoding="utf-8"?>'
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id">'
        '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f'<dc:identifier id="id">{escape(identifier)}</dc:identifier>'
        f"<dc:title>{escape(title)}</dc:title><dc:creator>{escape(author)}</dc:creator>"
        f"<dc:language>{escape(language)}</dc:language><dc:rights>{escape(rights)}</dc:rights>"
        '<meta property="dcterms:modified">2000-01-01T00:00:00Z</meta></metadata>'
        '<manifest><item id="nav" href="nav.xhtml" properties="nav" '
        f'media-type="application/xhtml+xml"/>{manifest}</manifest>'
        f"<spine>{spine}</spine></package>"
    )
    container = (
        '<?xml version="1.0"?><container version="1.0" '
        'xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile '
        'full-path="OEBPS/package.opf" media-type="application/oebps-package+xml"/>'
        "</rootfiles></container>"
    )
    navigation = _xhtml_page(
        title, language, f'<nav epub:type="toc"><h1>Contents</h1><ol>{contents}</ol></nav>'
    )
    files = {
        "mimetype": "application/epub+zip",  # the format wants it first and stored
        "META-INF/container.xml": container,
        "OEBPS/package.opf": package,
        "OEBPS/nav.xhtml": navigation,
    }
    for name, (heading, text) in zip(names, chapters, strict=True):
        paragraphs = "\n".join(
            f"<p>{escape(paragraph.strip())}</p>"
            for paragraph in re.split(r"\n\s*\n", text)
            if paragraph.strip()
        )
        body = f"<h2>{escape(heading)}</h2>\n{paragraphs}"
        files[f"OEBPS/{name}"] = _xhtml_page(heading, language, body)
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            stored = name == "mimetype"
            entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)


def _xhtml_page(title: str, language: str, body: str) -> str:
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE html>\n'
        '<html xmlns="http://www.w3.org/1999/xhtml" '
        f'xmlns:epub="http://www.idpf.org/2007/ops" lang="{language}" xml:lang="{language}">'
        f"<head><title>{escape(title)}</title></head>\n<body>{body}</body></html>\n"
    )
