"""Links and robots directives of a page."""

from urllib.parse import unquote_to_bytes

import pytest

from infra.formats.encoding_labels import find_encoding
from infra.formats.web_encodings import decode_as_browser, encode_as_browser
from tasks.acquire.web.page import (
    forbids_follow,
    forbids_index,
    parse_directives,
    parse_page,
)

URL = "http://h/a/b"


def links(body: str, url: str = URL) -> list[str]:
    return list(parse_page(body.encode(), url, "text/html", "gristmill").links)


def test_links_are_canonical_sorted_and_each_once() -> None:
    body = """<a href="d#x">1</a><a href='/c'>2</a><A HREF=//i/j>3</A><a href="d">4</a>
      <area href=e><iframe src=f></iframe><a>none</a><a href="">self</a><a href="mailto:x@y">m</a>
      <link href=style.css><img src=i.png>"""
    assert links(body) == [
        "http://h/a/d",
        "http://h/a/e",
        "http://h/a/f",
        "http://h/c",
        "http://i/j",
    ]


def test_base_and_refresh() -> None:
    assert links('<base href="/x/"><a href=y>1</a>') == ["http://h/x/y"]
    assert links('<base href="mailto:x"><a href=y>1</a>') == ["http://h/a/y"]
    assert links("<meta http-equiv=Refresh content=\"0; URL='z'\">") == ["http://h/a/z"]
    assert links('<meta http-equiv=refresh content="30">') == []


def test_nofollow_of_a_link_and_of_a_page() -> None:
    assert links('<a rel="noopener nofollow" href=x>1</a><a href=y>2</a>') == ["http://h/a/y"]
    assert links('<meta name=ROBOTS content="NoFollow"><a href=y>2</a>') == []
    assert links('<meta name=gristmill content="none"><a href=y>2</a>') == []
    assert links('<meta name=otherbot content="none"><a href=y>2</a>') == ["http://h/a/y"]


def test_header_and_meta_directives_add_up() -> None:
    body = b"<meta name=robots content='noarchive, max-snippet:20'><a href=y>2</a>"
    page = parse_page(body, URL, "text/html", "gristmill", ["noindex"])
    assert page.directives == ("max-snippet 20", "noarchive", "noindex")
    assert page.links == ("http://h/a/y",)


@pytest.mark.parametrize("body", [b"", b"\0", b"\xff\xfe", b"<", b"<!-- -->", b"plain"])
def test_a_body_that_is_not_a_page_has_no_links(body: bytes) -> None:
    assert parse_page(body, URL, "text/html", "gristmill").links == ()


def test_broken_html_and_odd_encodings() -> None:
    assert links("<p><a href=x>1</b></p></html><a href=y") == ["http://h/a/x"]
    for encoding in ("utf-16", "latin-1"):
        body = "<html><a href='\u00e9'>1</a></html>".encode(encoding)
        kind = f"text/html; charset={encoding}"
        assert parse_page(body, URL, kind, "gristmill").links == ("http://h/a/%C3%A9",)


def encoded_link(declared: str, codec: str) -> list[str]:
    body = '<p>\u043f\u0440\u0438\u0432\u0435\u0442</p><a href="/\u0444?q=\u043f\u0440\u2603&r=%D0#x">a</a>'
    data = body.encode(codec, "xmlcharrefreplace")
    return list(parse_page(data, URL, f"text/html; charset={declared}", "gristmill").links)


@pytest.mark.parametrize(
    ("declared", "codec", "query"),
    [
        ("windows-1251", "cp1251", "q=%EF%F0%26%239731%3B&r=%D0"),
        ("koi8-r", "koi8-r", "q=%D0%D2%26%239731%3B&r=%D0"),
        ("utf-8", "utf-8", "q=%D0%BF%D1%80%E2%98%83&r=%D0"),
        ("utf-16le", "utf-16", "q=%D0%BF%D1%80%E2%98%83&r=%D0"),
    ],
)
def test_queries_are_in_the_encoding_of_the_page(declared: str, codec: str, query: str) -> None:
    assert encoded_link(declared, codec) == [f"http://h/%D1%84?{query}"]


@pytest.mark.parametrize(
    ("declared", "word", "query"),
    [
        ("windows-874", "\u0e44\u0e17\u0e22", "%E4%B7%C2"),
        ("x-mac-cyrillic", "\u0437\u0435\u043c\u043b\u044f", "%E7%E5%EC%EB%DF"),
        ("iso-8859-8-i", "\u05e9\u05dc\u05d5\u05dd", "%F9%EC%E5%ED"),
        ("euc-kr", "\ub620\ubc29", "%8Cc%B9%E6"),
        ("shift_jis", "\u2460\uff5e", "%87@%81%60"),
        ("euc-jp", "\uff5e", "%A1%C1"),
        ("gb2312", "\u9555", "%E9F"),
    ],
)
def test_queries_are_in_the_encoding_that_browsers_mean(
    declared: str, word: str, query: str
) -> None:
    text = decode_as_browser(unquote_to_bytes(query), find_encoding(declared) or "")
    assert text == word
    body = encode_as_browser(
        f"<p>{word * 20}</p><a href='/?q={word}'>a</a>", find_encoding(declared) or "", "strict"
    )
    parsed = parse_page(body, URL, f"text/html; charset={declared}", "gristmill")
    assert parsed.links == (f"http://h/?q={query}",)


@pytest.mark.parametrize("depth", [300, 2000])
def test_links_behind_nested_elements_are_links(depth: int) -> None:
    body = "<div>" * depth + "<a href=/in>a</a>" + "</div>" * depth + "<a href=/after>b</a>"
    assert links(body) == ["http://h/after", "http://h/in"]


def test_a_limit_of_the_parser_is_reported() -> None:
    parsed = parse_page(b"<a href=/x>a</a>" + b"<b>" * 5000, URL, "text/html", "gristmill")
    assert parsed.limit
    assert parse_page(b"<a href=/x>a</a>", URL, "text/html", "gristmill").limit is None


def test_links_behind_a_large_attribute_are_links() -> None:
    body = '<img src="data:image/png;base64,' + "A" * 11_000_000 + '"><a href=/after>b</a>'
    assert links(body) == ["http://h/after"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["NoIndex,  nofollow"], ("nofollow", "noindex")),
        (["otherbot: noindex"], ()),
        (["gristmill: noindex, noarchive"], ("noarchive", "noindex")),
        (["otherbot: none, nofollow", "noimageindex"], ("noimageindex",)),
        (["unavailable_after: 25 Jun 2030 15:00:00 PST"],
         ("unavailable_after: 25 jun 2030 15:00:00 pst",)),
        ([""], ()),
    ],
)  # fmt: skip
def test_x_robots_tag(values: list[str], expected: tuple[str, ...]) -> None:
    assert parse_directives(values, "gristmill") == expected


def test_what_directives_forbid() -> None:
    assert forbids_index(["noindex"])
    assert forbids_index(["none"])
    assert not forbids_index(["nofollow", "noarchive"])
    assert forbids_follow(["none"])
    assert not forbids_follow(["noindex"])
