"""The metadata that a page states."""

import json

import pytest
from lxml import html

from tasks.extract.metadata import (
    Metadata,
    license_name,
    normalize_language_tag,
    parse_date,
    read_metadata,
)

URL = "https://h.example/a/b"


def metadata(head: str = "", body: str = "<p>x</p>", attributes: str = "") -> Metadata:
    page = f"<html {attributes}><head>{head}</head><body>{body}</body></html>"
    return read_metadata(html.document_fromstring(page), URL)


def linked(**value: object) -> str:
    return f'<script type="application/ld+json">{json.dumps(value)}</script>'


def test_a_page_without_metadata() -> None:
    assert metadata() == Metadata()


@pytest.mark.parametrize(
    ("head", "body", "title"),
    [
        ("<title> A\n title </title>", "", "A title"),
        ('<title>A | Site</title><meta property="og:title" content="A">', "", "A"),
        ("", "<svg><title>Menu</title></svg><h1>A heading</h1>", "A heading"),
        ("<title></title>", "<h1>A <em>heading</em></h1>", "A heading"),
        ("<title>" + "x" * 900 + "</title>", "", "x" * 500),
    ],
)
def test_title(head: str, body: str, title: str) -> None:
    assert metadata(head, body).title == title


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2021-02-03", "2021-02-03"),
        ("2021-02-03T23:59:59-08:00", "2021-02-03"),
        ("20210203", "2021-02-03"),
        ("2021-02", "2021-02"),
        ("2021/2/3", "2021-02-03"),
        ("Wed, 03 Feb 2021 10:00:00 GMT", "2021-02-03"),
        ("3 Feb 2021 10:00", "2021-02-03"),
        ("2021-2-3", "2021-02-03"),
        ("February 3, 2021", "2021-02-03"),
        ("Wednesday, Feb. 3rd, 2021 at 10:00", "2021-02-03"),
        ("3 Sept 2021", "2021-09-03"),
        ("3-Feb-2021", "2021-02-03"),
        ("Chapter 3, 2021", None),
        ("Mart 3, 2021", None),
        ("31 February 2021", None),
        ("03/04/2021", None),
        ("2021-02-30", None),
        ("1812-01-01", None),
        ("9999-01-01", None),
        ("today", None),
        ("", None),
        (None, None),
        (20210203, None),
        ("2021-02-03 " + "x" * 100, None),
    ],
)
def test_dates(text: object, day: str | None) -> None:
    assert parse_date(text) == day


def test_the_date_of_publication_comes_first() -> None:
    changed = '<meta property="article:modified_time" content="2022-01-01">'
    published = '<meta property="article:published_time" content="2021-01-01T00:00:00Z">'
    assert metadata(changed + published).date == "2021-01-01"
    assert metadata(changed).date == "2022-01-01"
    data = linked(**{"@graph": [{"@type": "WebPage"}, {"datePublished": "2020-05-05"}]})
    assert metadata(changed + data).date == "2020-05-05"
    assert metadata("", '<time datetime="2019-09-09">9 Sep</time>').date == "2019-09-09"
    times = "<time>2018-01-01</time><time itemprop=datePublished datetime=2017-01-01>x</time>"
    assert metadata("", times).date == "2017-01-01"
    assert metadata('<meta name="date" content="yesterday">').date is None


@pytest.mark.parametrize(
    ("text", "tag"),
    [("en", "en"), ("EN_us", "en-US"), ("pt-br", "pt-BR"), ("zh-Hant-TW", "zh-Hant-TW"),
     ("de, en", "de"), ("", None), ("english", None), (None, None), ("e", None)],
)  # fmt: skip
def test_language_tags(text: str | None, tag: str | None) -> None:
    assert normalize_language_tag(text) == tag


def test_language() -> None:
    assert metadata(attributes='lang="de_AT"').language == "de-AT"
    assert metadata('<meta http-equiv="Content-Language" content="fr">').language == "fr"
    assert metadata('<meta property="og:locale" content="es_ES">').language == "es-ES"
    assert metadata(attributes='lang=""').language is None


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://creativecommons.org/licenses/by-sa/4.0/", "cc-by-sa-4.0"),
        ("//creativecommons.org/licenses/BY/3.0/deed.de", "cc-by-3.0"),
        ("http://creativecommons.org/publicdomain/zero/1.0/", "cc0-1.0"),
        ("https://creativecommons.org/publicdomain/mark/1.0/", "public-domain"),
        ("http://creativecommons.org/licenses/publicdomain/", "public-domain"),
        ("https://h.example/license", "https://h.example/license"),
    ],
)
def test_license_names(address: str, name: str) -> None:
    assert license_name(address) == name


BY, ZERO = ("https://creativecommons.org/licenses/by/4.0/",
            "https://creativecommons.org/publicdomain/zero/1.0/")  # fmt: skip


def test_license() -> None:
    assert metadata(body=f'<a rel="license nofollow" href="{BY}">x</a>').license == "cc-by-4.0"
    assert metadata('<link rel=license href="/terms">').license == "https://h.example/terms"
    assert metadata(linked(license=BY)).license == "cc-by-4.0"
    assert metadata(linked(license={"url": ZERO})).license == "cc0-1.0"
    assert metadata(f'<meta name="DCTERMS.rights" content="{BY}">').license == "cc-by-4.0"
    assert metadata('<meta name="dc.rights" content="All rights reserved">').license is None
    for text, name in (("CC BY-SA 4.0", "cc-by-sa-4.0"), ("CC0", "cc0-1.0"), ("MIT", "MIT"), ("GPL-3.0", "GPL-3.0"),
                       ("All rights reserved", "All rights reserved"), ("/terms", "https://h.example/terms"),
                       ("terms.html", "https://h.example/a/terms.html")):  # fmt: skip
        assert metadata(linked(license=text)).license == name
    assert metadata('<meta name="dc.rights" content="CC BY 4.0">').license == "cc-by-4.0"
    assert metadata(body=f'<a href="{BY}">x</a><a href="{BY}">y</a>').license == "cc-by-4.0"
    assert metadata(body=f'<a href="{BY}">x</a><a href="{ZERO}">y</a>').license is None


def test_linked_data_that_is_broken_or_deep() -> None:
    broken = '<script type="application/ld+json">{"datePublished": "2020-01-01"</script>'
    assert metadata(broken).date is None
    lines = '<script type="application/ld+json">{"name": "a\nb", "datePublished": "2020-01-01"}</script>'
    assert metadata(lines).date == "2020-01-01"
    deep = '<script type="application/ld+json">' + "[" * 100_000 + "</script>"
    assert metadata(deep + linked(datePublished="2020-01-01")).date == "2020-01-01"
