"""One page to one document, by either engine."""

import random
from collections.abc import Callable

import pytest

from tasks.extract.page import ExtractedPage, ExtractRequest, PageError, extract_page

ENGINES = pytest.mark.parametrize("engine", ["trafilatura", "resiliparse"])
PROSE = [
    f"<p>In the year {year} the miller of the village ground {year % 97} sacks of grain, and his "
    f"daughter wrote every one of them down in a book that is still there.</p>"
    for year in range(1801, 1821)
]


def page(body: str, engine: str, **more: str | None) -> ExtractedPage:
    text = (
        f"<!doctype html><html lang=en><head><title>Mill</title></head><body>{body}</body></html>"
    )
    given = {"content_type": "text/html; charset=utf-8", **more}
    return extract_page(ExtractRequest(text.encode(), "http://h/", **given), engine)


@ENGINES
def test_the_article_is_extracted_without_menus(engine: str) -> None:
    menu = "<nav><ul><li><a href=/>Home</a></li><li><a href=/x>Imprint</a></li></ul></nav>"
    extracted = page(f"{menu}<article><h1>The mill</h1>{''.join(PROSE)}</article>{menu}", engine)
    assert "Imprint" not in extracted.text
    for year in range(1801, 1821):
        assert f"year {year} the" in extracted.text
    assert extracted.metadata.title == "Mill"
    assert extracted.metadata.language == "en"
    assert (extracted.encoding, extracted.num_replaced) == ("utf-8", 0)


@ENGINES
def test_earlier_pages_do_not_matter(engine: str) -> None:
    bodies = ["".join(PROSE[at : at + 6]) for at in range(15)] * 2
    alone = {body: page(body, engine) for body in bodies}
    random.Random(3).shuffle(bodies)
    for body in bodies:
        assert page(body, engine) == alone[body]


@ENGINES
def test_a_fragment_is_a_page_too(engine: str) -> None:
    request = ExtractRequest(
        "<p>caf\u00e9 au lait, d\u00e9j\u00e0 vu</p>".encode("latin-1"), "http://h/", "text/html"
    )
    assert "caf\u00e9 au lait, d\u00e9j\u00e0 vu" in extract_page(request, engine).text


@ENGINES
@pytest.mark.parametrize(
    "payload", [b"", b" \n ", b"<html></html>", b"<!-- -->", b"<script>x</script>"]
)
def test_pages_without_text(engine: str, payload: bytes) -> None:
    assert extract_page(ExtractRequest(payload, "http://h/", "text/html"), engine).text == ""


@ENGINES
def test_a_declaration_of_another_encoding_does_no_harm(engine: str) -> None:
    xml = '<?xml version="1.0" encoding="ascii"?>\n<html xmlns="http://www.w3.org/1999/xhtml">'
    payload = f"{xml}<body>{''.join(PROSE)}<p>na\u00efve</p></body></html>".encode()
    extracted = extract_page(ExtractRequest(payload, "http://h/", "application/xhtml+xml"), engine)
    assert "1805" in extracted.text
    assert "na\u00efve" in extracted.text


@ENGINES
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: "<div>" * 100_000 + "x", "too_deep"),
        (lambda: "<p>" + "x" * 11_000_000, "parser_limit"),
    ],
)
def test_bombs(engine: str, make: Callable[[], str], reason: str) -> None:
    with pytest.raises(PageError) as error:
        page(make(), engine)
    assert error.value.reason == reason


def test_plain_text_is_unchanged() -> None:
    payload = "Zeile eins \u00e4\r\n\r\n  <p>no markup\n".encode()
    request = ExtractRequest(
        payload, "http://h/", "text/plain; charset=utf-8", content_language="de"
    )
    extracted = extract_page(request, "trafilatura")
    assert extracted.text == payload.decode()
    assert extracted.metadata.language == "de"
    assert extracted.metadata.title is None


def test_headers_complete_the_metadata() -> None:
    by = "https://creativecommons.org/licenses/by/4.0/"
    given = {"content_language": "fr", "license_hint": by}
    own = page(f'<a rel=license href="/own">x</a>{PROSE[0]}', "trafilatura", **given)
    assert own.metadata.license == "http://h/own"
    assert own.metadata.language == "en"
    assert page(PROSE[0], "trafilatura", **given).metadata.license == "cc-by-4.0"


LAMP = (
    "The lamp on the quay was lit at dusk, and the ferryman counted the last passengers as they came "
    "aboard the boat."
)


@ENGINES
@pytest.mark.parametrize(
    "inserted",
    [
        *"\v\f\x00\x01\x08\x0e\x1b\x1f\x7f\x85\x9d\ufdd0\ufffe\uffff\U0001fffe",
        *("&#11;", "&#12;", "&#1;", "&#x1;", "&#X1F;", "&#8", "&#0;", "&#xFFFE;", "&#65535;"),
        *("&#x110000;", "&#55296;", "&#xD800;", "&#9999999;"),
    ],
)
@pytest.mark.parametrize(
    "where", ["<p>He {}waited.</p>", "<title>{}</title>", '<p class="{}">x</p>']
)
def test_a_control_character_costs_no_page(engine: str, inserted: str, where: str) -> None:
    extracted = page(f"<p>{LAMP}</p>{where.format(inserted)}{''.join(PROSE)}", engine)
    assert LAMP in extracted.text
    for year in range(1801, 1821):
        assert f"year {year} the" in extracted.text


@pytest.mark.parametrize("engine", ["trafilatura"])
def test_references_of_windows_1252_are_read_as_browsers_read_them(engine: str) -> None:
    extracted = page(f"<p>The miller&#146;s book &#150; {LAMP}</p>" + "".join(PROSE), engine)
    assert "The miller\u2019s book \u2013 The lamp" in extracted.text


def test_plain_text_has_no_control_characters() -> None:
    request = ExtractRequest(b"One\x01 page.\fAnother\x1b page.\n", "http://h/", "text/plain")
    assert extract_page(request, "trafilatura").text == "One page. Another page.\n"


@ENGINES
@pytest.mark.parametrize(
    "mark",
    [
        '<a class="headerlink" href="#mill" title="Permalink to this heading">\u00b6</a>',
        '<a class="headerlink" href="mill.html#mill" title="Permanent link">&para;</a>',
        '<a class="hash-link" href="#mill" title="Direct link to heading">\u200b#</a>',
        '<a class="header-anchor" href="#mill" aria-label="Permalink to mill">\u00a7</a>',
        '<a href="#mill">\U0001f517</a>',
        '<a class="anchor-link" href="#mill">Link to this heading \u00b6</a>',
        '<a class="reference" href="_modules/m.html"><span class="viewcode-link">[Quelle]</span></a>',
        '<span class="mw-editsection"><span>[</span><a href="/e">Quelle</a><span>]</span></span>',
    ],
)
def test_links_of_headings_to_themselves_are_not_text(engine: str, mark: str) -> None:
    extracted = page(f"<article><h2>The mill {mark}</h2>{''.join(PROSE)}</article>", engine)
    assert "The mill" in extracted.text
    assert "year 1805 the" in extracted.text
    for sign in ("\u00b6", "\u00a7", "#", "\U0001f517", "Link to this", "Quelle"):
        assert sign not in extracted.text


@ENGINES
def test_links_with_words_and_notes_stay(engine: str) -> None:
    body = (
        f'<article><p>{LAMP} See <a href="#two">the second part</a> and note<a href="#n1">[1]</a>; '
        f"section \u00b6 7 of the act.</p>{''.join(PROSE)}</article>"
    )
    text = page(body, engine).text
    assert "See the second part and note[1]; section \u00b6 7 of the act." in text.replace(
        "note [", "note["
    )


@ENGINES
@pytest.mark.parametrize(
    "body", ["\u200b \u200c\ufeff", "\u2060\u00ad\u3164", "<p>\u200e</p>\u2800"]
)
def test_text_that_shows_nothing_is_no_text(engine: str, body: str) -> None:
    assert page(body, engine).text == ""


def test_a_license_in_json_ld_is_text() -> None:
    script = '<script type="application/ld+json">{"license": "http://l/\\ud83d\\u0000x"}</script>'
    extracted = page(script + "".join(PROSE), "trafilatura")
    assert extracted.metadata.license == "http://l/x"
