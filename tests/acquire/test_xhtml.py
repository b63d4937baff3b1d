import pytest

from tasks.acquire.books.book import BookError
from tasks.acquire.books.xhtml import xhtml_to_text
from tests.acquire.epubs import page


def text(body: str) -> str:
    return xhtml_to_text(page(body).encode()).text


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("<p>One\n  two <b>three</b>.</p><p>Four</p>", "One two three.\n\nFour"),
        ("<p>a<i>b</i>c</p>", "abc"),
        ("<p>line<br/>line</p>", "line\nline"),
        ("<ul><li>one</li><li>two</li></ul><p>after</p>", "one\ntwo\n\nafter"),
        ("<ul><li><p>one</p></li><li><p>two</p></li></ul>", "one\n\ntwo"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc"),
        ("<div><div><p>deep</p></div></div>tail", "deep\n\ntail"),
        ("<pre>  keep\n    this\n\nhere</pre>", "  keep\n    this\n\nhere"),
        ("<p>a&#160;b</p><p>&#160;</p><p>c</p>", "a b\n\nc"),
        ("<p>soft&#173;hyphen</p>", "softhyphen"),
        ("<p><ruby>漢<rp>(</rp><rt>かん</rt><rp>)</rp></ruby>字</p>", "漢字"),
        ('<p>note<a epub:type="noteref" href="#n">1</a>.</p>', "note."),
        ('<p>page<span epub:type="pagebreak">12</span>d</p>', "paged"),
        ("<p>x</p><script>no()</script><style>p{}</style><svg><text>no</text></svg>", "x"),
        ('<div class="pg-boilerplate"><p>licence</p></div><p>book</p>', "book"),
        ('<p hidden="hidden">no</p>yes', "yes"),
        ('<div class="line">a</div><div class="line">b</div>', "a\nb"),
        ("", ""),
    ],
)
def test_rendering(body: str, expected: str) -> None:
    assert text(body) == expected


def test_anchors_point_at_the_text_of_their_element() -> None:
    page_ = xhtml_to_text(
        page('<p>First.</p><h2 id="a">Two</h2><p>x <a id="b"/>y</p><i id="c"/>').encode()
    )
    assert page_.text == "First.\n\nTwo\n\nx y"
    assert {name: page_.text[at:] for name, at in page_.anchors.items()} == {
        "a": "Two\n\nx y",
        "b": "y",
        "c": "",
    }


def test_headings_and_links() -> None:
    parsed = xhtml_to_text(
        page('<p>p</p><h3>Of <i>Time</i></h3><p><a href="x">link</a> z</p>').encode()
    )
    assert (parsed.headings, parsed.link_chars) == ([("Of Time", 3)], 4)


def test_named_entities_need_no_dtd() -> None:
    parsed = xhtml_to_text(page("<p>caf&eacute;&nbsp;&mdash; &amp; &lt;tag&gt;</p>").encode())
    assert (parsed.text, parsed.repaired) == ("café — & <tag>", False)


def test_entities_of_a_dtd_that_is_not_fetched() -> None:
    doctype = (
        b'<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.1//EN" '
        b'"http://www.w3.org/TR/xhtml11/DTD/xhtml11.dtd">'
    )
    assert xhtml_to_text(doctype + b"<html><body><p>a&nbsp;b</p></body></html>").text == "a b"


def test_an_entity_bomb_is_not_expanded() -> None:
    bomb = b'<!DOCTYPE h [<!ENTITY a "%s"><!ENTITY b "%s">]><h><body><p>x&b;</p></body></h>' % (
        b"a" * 1000,
        b"&a;" * 1000,
    )
    assert len(xhtml_to_text(bomb).text) < 100


def test_malformed_xml_is_parsed_as_html() -> None:
    parsed = xhtml_to_text(b"<html><body><p>one<p>two & three</body>")
    assert (parsed.text, parsed.repaired) == ("one\n\ntwo & three", True)


def test_other_encodings() -> None:
    data = page("<p>naïve</p>").replace("utf-8", "iso-8859-1").encode("latin-1")
    assert xhtml_to_text(data).text == "naïve"
    assert (
        xhtml_to_text(page("<p>naïve</p>").replace("utf-8", "utf-16").encode("utf-16")).text
        == "naïve"
    )
    broken = b'<?xml version="1.0" encoding="windows-1252"?><html><p>na\xefve<br></html>'
    assert xhtml_to_text(broken).text == "naïve"


def test_nesting_may_have_any_depth() -> None:
    depth = 200
    assert text("<div>" * depth + "deep" + "</div>" * depth) == "deep"


@pytest.mark.parametrize("data", [b"", b"  \n"])
def test_an_empty_document_is_broken(data: bytes) -> None:
    with pytest.raises(BookError):
        xhtml_to_text(data)
