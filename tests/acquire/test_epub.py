import io
import zipfile
from collections.abc import Callable

import pytest

from tasks.acquire.books.book import Book, BookError
from tasks.acquire.books.epub import read_epub
from tasks.acquire.books.xhtml import xhtml_to_text
from tests.acquire.epubs import ncx, pack, package, page, point, whale

LIMIT = 1 << 20
ENCRYPTION = (
    '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container" '
    'xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:EncryptedData>'
    '<enc:EncryptionMethod Algorithm="{}"/><enc:CipherData>'
    '<enc:CipherReference URI="OEBPS/{}"/></enc:CipherData></enc:EncryptedData></encryption>'
)


def no_container() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.txt", "x")
    return out.getvalue()


def read(data: bytes, limit: int = LIMIT) -> Book:
    return read_epub(io.BytesIO(data), limit)


def at(book: Book) -> list[tuple[str, str]]:
    """Chapters as title and the line of text they begin with."""
    return [(title, book.text[start:].split("\n")[0]) for title, start in book.chapters]


def test_an_epub_2() -> None:
    book = read(whale())
    assert book.text == (
        "Loomings\n\nCall me Ishmael.\n\nSome years ago.\n\n"
        "The Carpet-Bag\n\nI stuffed a shirt or two."
    )
    assert at(book) == [("Loomings", "Loomings"), ("The Carpet-Bag", "The Carpet-Bag")]
    assert (book.title, book.creators, book.language) == ("The Whale", ["Herman Melville"], "en")
    assert (book.date, book.rights, book.format) == ("1851-10-18", "Public domain", "epub 2.0")
    assert (book.chapters_lost, book.chapters_repaired) == ([], [])


def test_an_epub_3_with_its_navigation_document() -> None:
    nav = page(
        '<nav epub:type="landmarks"><ol><li><a href="c.xhtml">no</a></li></ol></nav>'
        '<nav epub:type="toc"><h1>Contents</h1><ol>'
        '<li><span>Part One</span><ol><li><a href="c.xhtml">First</a></li>'
        '<li><a href="c.xhtml#two">Second <i>one</i></a><ol>'
        '<li><a href="c.xhtml#sec">A section</a></li></ol></li></ol></li></ol></nav>'
    )
    metadata = (
        '<dc:title id="s">A Subtitle</dc:title><dc:title id="m">Main Title</dc:title>'
        '<meta refines="#m" property="title-type">main</meta><dc:language>de</dc:language>'
        '<meta property="dcterms:modified">2020-01-01T00:00:00Z</meta><dc:date>2019-03</dc:date>'
    )
    item = '<item id="n" href="nav.xhtml" properties="nav" media-type="application/xhtml+xml"/>'
    body = '<p>One.</p><h2 id="two">Two.</h2><p id="sec">Sec.</p>'
    opf = package(["nav.xhtml", "c.xhtml"], version="3.0", metadata=metadata, items=item)
    book = read(pack({"content.opf": opf, "nav.xhtml": nav, "c.xhtml": page(body)}))
    assert book.text == "One.\n\nTwo.\n\nSec."  # the navigation document is not text
    assert at(book) == [("Part One", "One."), ("Second one", "Two.")]
    assert (book.title, book.language, book.date) == ("Main Title", "de", "2019-03")


def test_sections_are_not_chapters_but_entries_below_the_whole_book_are() -> None:
    contents = ncx(
        point(
            "The Whale",
            "ch1.xhtml",
            point("One", "ch1.xhtml#a", point("Section", "ch1.xhtml#b")),
            point("Two", "ch2.xhtml"),
        )
    )
    ch1 = page('<p>Title</p><p id="a">Call me</p><p id="b">Ishmael</p>')
    book = read(whale(toc_ncx=contents, ch1_xhtml=ch1))
    assert [title for title, _ in book.chapters] == ["The Whale", "One", "Two"]


def test_cover_and_contents_are_left_out() -> None:
    links = "".join(f'<p><a href="ch{n}.xhtml">Chapter number {n} of it</a></p>' for n in range(9))
    guide = '<reference type="cover" href="cover.xhtml"/>'
    opf = package(["cover.xhtml", "contents.xhtml", "ch1.xhtml", "ch2.xhtml"], guide=guide)
    extra = {"cover_xhtml": page("<p>Cover</p>"), "contents_xhtml": page(links)}
    book = read(whale(content_opf=opf, **extra))
    assert book.text == read(whale()).text
    # Nothing declares the page of links: it may be more than contents, so it is named.
    assert [lost["file"] for lost in book.chapters_lost] == ["OEBPS/contents.xhtml"]
    guide += '<reference type="toc" href="contents.xhtml"/>'
    opf = package(["cover.xhtml", "contents.xhtml", "ch1.xhtml", "ch2.xhtml"], guide=guide)
    assert read(whale(content_opf=opf, **extra)).chapters_lost == []


def test_without_a_table_of_contents_headings_are_chapters() -> None:
    assert at(read(whale(toc_ncx=ncx()))) == [
        ("Loomings", "Loomings"),
        ("The Carpet-Bag", "The Carpet-Bag"),
    ]


def test_a_document_listed_twice_is_read_once() -> None:
    opf = package(["ch1.xhtml", "ch1.xhtml#x", "ch2.xhtml", "ch1.xhtml"])
    assert read(whale(content_opf=opf)).text == read(whale()).text


def test_percent_encoded_names() -> None:
    opf = package(["a%20b.xhtml"])
    book = read(pack({"content.opf": opf, "OEBPS/a b.xhtml": page("<p>x</p>")}))
    assert book.text == "x"


def test_a_broken_chapter_costs_no_other() -> None:
    book = read(whale(ch1_xhtml=b""))
    assert book.text == "The Carpet-Bag\n\nI stuffed a shirt or two."
    assert at(book) == [("The Carpet-Bag", "The Carpet-Bag")]
    assert book.chapters_lost == [{"file": "OEBPS/ch1.xhtml", "error": "empty"}]


def test_a_chapter_with_a_wrong_checksum_is_lost_and_named() -> None:
    data = bytearray(stored(whale()))
    data[data.index(b"Call me Ishmael")] ^= 1
    book = read(bytes(data))
    assert book.text.startswith("The Carpet-Bag")
    assert book.chapters_lost[0]["file"] == "OEBPS/ch1.xhtml"
    assert "CRC" in book.chapters_lost[0]["error"]


def test_a_missing_chapter_is_named() -> None:
    opf = package(["ch1.xhtml", "gone.xhtml"])
    assert read(whale(content_opf=opf)).chapters_lost == [
        {"file": "OEBPS/gone.xhtml", "error": "missing"}
    ]


def test_tag_soup_is_read_and_reported() -> None:
    book = read(whale(ch1_xhtml="<html><body><p>Call me<p>Ishmael & co</html>"))
    assert book.text.startswith("Call me\n\nIshmael & co")
    assert book.chapters_repaired == ["OEBPS/ch1.xhtml"]


def test_a_broken_table_of_contents_is_reported() -> None:
    book = read(whale(toc_ncx="<ncx"))
    assert book.chapters_lost[0]["file"] == "OEBPS/toc.ncx"
    assert len(book.chapters) == 2  # from the headings


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: whale()[:-300], "not a readable zip file"),
        (lambda: b"PK\x03\x04 and nothing more", "not a readable zip file"),
        (lambda: b"no zip at all", "not a readable zip file"),
        (lambda: pack({"ch1.xhtml": "x"}), "OEBPS/content.opf: missing"),
        (lambda: whale(content_opf="<package"), "OEBPS/content.opf: not well-formed"),
        (lambda: whale(content_opf=package([])), "its spine names no chapter"),
        (lambda: whale(ch1_xhtml="", ch2_xhtml=""), "no readable chapter"),
        (no_container, "META-INF/container.xml: missing"),
    ],
)
def test_the_error_of_a_broken_book_names_the_file(data: Callable[[], bytes], message: str) -> None:
    with pytest.raises(BookError, match=message) as caught:
        read(data())
    assert caught.value.reason == "bad_epub"


def test_obfuscated_fonts_are_not_drm() -> None:
    for algorithm in ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC"):
        encryption = {"META-INF/encryption.xml": ENCRYPTION.format(algorithm, "f.ttf")}
        assert read(whale(**encryption)).text


@pytest.mark.parametrize(
    "files",
    [
        {"META-INF/encryption.xml": ENCRYPTION.format("http://www.w3.org/aes128-cbc", "ch1.xhtml")},
        {"META-INF/license.lcpl": "{}"},
    ],
)
def test_drm_is_recognized(files: dict[str, str | bytes]) -> None:
    with pytest.raises(BookError) as caught:
        read(whale(**files))
    assert caught.value.reason == "drm"


def test_a_zip_bomb_is_not_unpacked() -> None:
    bomb = whale(ch1_xhtml=page("<p>" + " " * (8 << 20) + "</p>"))
    assert len(bomb) < 100_000
    with pytest.raises(BookError, match=r"more than 1048576 bytes \(OEBPS/ch1.xhtml\)") as caught:
        read(bomb)
    assert caught.value.reason == "too_large"


def test_the_limit_is_for_all_members_together() -> None:
    opf = package([f"c{n}.xhtml" for n in range(10)])
    members: dict[str, str | bytes] = {f"c{n}.xhtml": page("x" * 200_000) for n in range(10)}
    with pytest.raises(BookError) as caught:
        read(pack({"content.opf": opf, **members}))
    assert caught.value.reason == "too_large"


def stored(data: bytes) -> bytes:
    """The same archive without compression."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return out.getvalue()


TEXT = "The lamp on the quay was lit at dusk, and the ferryman counted the last passengers."


def manifest_item(name: str, kind: str, more: str = "") -> str:
    return f'<item id="{name}" href="{name}" media-type="{kind}" {more}/>'


def spine_of(types: dict[str, str], *, items: str = "", more: str = "") -> str:
    """A package whose spine lists files of these media types."""
    listed = "".join(manifest_item(name, kind, more) for name, kind in types.items())
    refs = "".join(f'<itemref idref="{name}"/>' for name in types)
    return (
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata/>'
        f"<manifest>{listed}{items}</manifest><spine>{refs}</spine></package>"
    )


@pytest.mark.parametrize("kind", ["cover", "toc", "loi", "lot", "TOC"])
def test_a_place_in_a_document_that_the_guide_names_is_text(kind: str) -> None:
    guide = f'<reference type="{kind}" href="ch1.xhtml#part"/>'
    book = read(whale(content_opf=package(["ch1.xhtml", "ch2.xhtml"], guide=guide)))
    assert "Call me Ishmael." in book.text
    assert "I stuffed a shirt" in book.text


def test_a_declared_document_that_holds_text_is_text() -> None:
    guide = '<reference type="toc" href="ch1.xhtml"/><reference type="cover" href="ch2.xhtml"/>'
    opf = package(["ch1.xhtml", "ch2.xhtml", "ch3.xhtml"], guide=guide)
    lists = "<p>" + "</p><p>".join(f"Chapter number {number}" for number in range(9)) + "</p>"
    book = read(pack({
        "content.opf": opf, "ch1.xhtml": page(f"<p>{TEXT}</p>"), "ch2.xhtml": page(lists),
        "ch3.xhtml": page("<p>End.</p>"),
    }))  # fmt: skip
    assert book.text == f"{TEXT}\n\nEnd."
    assert {
        "file": "OEBPS/ch2.xhtml",
        "error": "left out as cover or contents",
    } in book.chapters_lost


def test_a_navigation_document_that_holds_the_text_is_text() -> None:
    body = f'<nav epub:type="toc"><ol><li><a href="n#x">I</a></li></ol></nav><p id="x">{TEXT}</p>'
    opf = spine_of({"n": "application/xhtml+xml"}, more='properties="nav"')
    assert read(pack({"content.opf": opf, "n": page(body)})).text == TEXT


@pytest.mark.parametrize(
    "kind",
    ["application/XHTML+XML", "text/x-oeb1-document", "Text/HTML; charset=utf-8", "text/xml",
     "application/xml", "application/x-dtbook+xml", ""],
)  # fmt: skip
def test_every_type_of_text_is_read(kind: str) -> None:
    assert read(pack({"content.opf": spine_of({"a": kind}), "a": page(TEXT)})).text == TEXT


def test_a_foreign_type_is_replaced_by_its_fallback() -> None:
    items = manifest_item("pdf", "application/pdf", 'fallback="html"')
    items += manifest_item("html", "application/xhtml+xml")
    opf = spine_of({"a": "image/svg+xml"}, items=items, more='fallback="pdf"')
    book = read(pack({"content.opf": opf, "html": page(TEXT)}))
    assert (book.text, book.chapters_lost) == (TEXT, [])


@pytest.mark.parametrize("contents", ["", point("Of the contents", "a"), point("II", "b")])
def test_a_fallback_has_the_title_of_the_contents_or_its_own_heading(contents: str) -> None:
    items = manifest_item("html", "application/xhtml+xml") + manifest_item("b", "text/html")
    items += manifest_item("ncx", "application/x-dtbncx+xml")
    opf = spine_of({"a": "image/svg+xml"}, items=items, more='fallback="html"')
    opf = opf.replace("</spine>", '<itemref idref="b"/></spine>').replace(
        "<spine>", '<spine toc="ncx">'
    )
    files = {"html": page(f"<h1>I</h1><p>{TEXT}</p>"), "b": page("<h1>II</h1><p>End.</p>")}
    book = read(pack({"content.opf": opf, "ncx": ncx(contents), **files}))
    assert (
        at(book)
        == {
            "": [("I", "I"), ("II", "II")],
            point("Of the contents", "a"): [("Of the contents", "I")],
            point("II", "b"): [("I", "I"), ("II", "II")],
        }[contents]
    )


@pytest.mark.parametrize("fallback", ["", "a", "missing"])
def test_a_foreign_type_without_a_fallback_is_named(fallback: str) -> None:
    items = manifest_item("b", "text/html") + "<!-- -->"
    opf = spine_of({"a": "application/pdf"}, items=items, more=f'fallback="{fallback}"')
    opf = opf.replace("</spine>", '<itemref idref="b"/><itemref idref="none"/></spine>')
    book = read(pack({"content.opf": opf, "b": page(TEXT)}))
    assert book.text == TEXT
    assert [item["file"] for item in book.chapters_lost] == ["OEBPS/a", "none"]


@pytest.mark.parametrize("depth", [300, 1500])
@pytest.mark.parametrize("end", ["</div>", ""])
def test_nested_elements_cost_no_text(depth: int, end: str) -> None:
    body = "<div>" * depth + f"<p>{TEXT}</p>" + end * depth + "<p>The last line.</p>"
    book = read(whale(ch1_xhtml=page(body)))
    assert book.text.startswith(f"{TEXT}\n\nThe last line.")
    assert book.chapters_lost == []


def test_text_behind_a_limit_of_the_parser_is_named_as_lost() -> None:
    body = f"<p>{TEXT}</p>" + "<div>" * 5000 + "<p>Deep.</p>"
    book = read(whale(ch1_xhtml=page(body)))
    assert "Deep." in book.text or book.chapters_lost[0]["file"] == "OEBPS/ch1.xhtml"


def test_a_large_picture_in_the_text_costs_no_text() -> None:
    picture = '<img src="data:image/png;base64,' + "A" * 11_000_000 + '"/>'
    book = read(whale(ch1_xhtml=page(f"<p>{TEXT}</p>{picture}<p>After.</p>")), 1 << 25)
    assert book.text.startswith(f"{TEXT}\n\nAfter.")


def test_a_formula_is_its_alternative_text() -> None:
    math = '<math xmlns="http://www.w3.org/1998/Math/MathML" {}><mi>E</mi>{}</math>'
    alt = math.format('alttext="E = mc^2"', "")
    tex = math.format("", '<annotation encoding="application/x-tex">a^2</annotation>')
    body = f"<p>So {alt} holds, {tex} too, {math.format('', '')}not this.</p>"
    assert read(whale(ch1_xhtml=page(body))).text.startswith(
        "So E = mc^2 holds, a^2 too, not this."
    )


def test_control_characters_cost_no_chapter() -> None:
    book = read(whale(ch1_xhtml=page(f"<p>{TEXT}</p><p>One\x01 two\x0bthree&#1;.</p>")))
    assert book.text.startswith(f"{TEXT}\n\nOne two three.")


PARAGRAPH = "<p>The ferry left at noon, and nobody on the quay knew when it would come back.</p>"


@pytest.mark.parametrize(
    "declared",
    ['<div class="toc">{}</div>', '<section epub:type="cover">{}</section>', "<nav>{}</nav>",
     '<object data="a.svg" type="image/svg+xml">{}</object>'],
)  # fmt: skip
def test_an_element_that_is_declared_as_contents_or_cover_may_hold_text(declared: str) -> None:
    contents = '<ol><li><a href="b.xhtml">The second chapter of the book</a></li></ol>'
    assert "noon" in xhtml_to_text(page(declared.format(PARAGRAPH)).encode()).text
    assert xhtml_to_text(page(declared.format(contents)).encode()).text == ""
