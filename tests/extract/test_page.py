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
