"""What a removal takes: checked values, every spelling of an address, the narrowest reason."""

import re
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.formats.urls import canonicalize_url, normalize_host
from infra.removals import match as module
from infra.removals.match import (
    InvalidRemovalError,
    Removal,
    fingerprint_input,
    match_table,
    parse_removal,
    sort_removals,
)

ID = "0123456789abcdef" * 2


def documents(
    urls: list[str | None], ids: list[str] | None = None, licenses: list[str | None] | None = None
) -> pa.Table:
    count = len(urls)
    return pa.table(
        {
            "id": pa.array(ids or ["f" * 32] * count, pa.string()),
            "url": pa.array(urls, pa.string()),
            "license": pa.array(licenses or [None] * count, pa.string()),
        }
    )


def taken(table: pa.Table, *removals: Removal) -> list[str | None]:
    """What takes each row, as text."""
    return [str(removals[place]) if place >= 0 else None for place in match_table(table, removals)]


def test_every_spelling_of_an_address_is_meant() -> None:
    removal = parse_removal("url", "HTTP://Example.org:80/a/./b?q=1#part")
    assert removal.value == "http://example.org/a/b?q=1"
    urls: list[str | None] = [
        "http://example.org/a/b?q=1",
        "http://EXAMPLE.org/x/../a/%62?q=1#other",
        "https://example.org/a/b?q=1",
        "http://example.org/a/b",
        "http://example.org/a/b?q=1&r=2",
        None,
    ]
    assert match_table(documents(urls), [removal]).tolist() == [0, 0, -1, -1, -1, -1]


def test_an_address_that_is_not_of_the_web_is_compared_as_written() -> None:
    removal = parse_removal("url", "book:Volume 9")
    assert taken(documents(["book:Volume 9", "book:volume 9"]), removal) == [
        "url book:Volume 9",
        None,
    ]


def test_a_domain_covers_its_subdomains_and_nothing_else() -> None:
    removal = parse_removal("domain", "Example.ORG.")
    urls: list[str | None] = [
        "https://example.org/",
        "http://a.b.example.org:8080/x",
        "HTTPS://WWW.Example.Org./x y",
        "ftp://user@example.org/file",
        f"https://example.org/{'x' * 3000}",
        "https://notexample.org/",
        "https://example.org.evil.net/",
        "https://other.net/https://example.org/",
        "book:example.org",
        "nonsense",
        None,
    ]
    assert [name is not None for name in taken(documents(urls), removal)] == [True] * 5 + [
        False
    ] * 6


def test_a_domain_of_another_script_and_an_address_of_numbers() -> None:
    urls: list[str | None] = [
        "https://bücher.example/x",
        "http://127.0.0.1:8907/a",
        "http://[::1]/",
    ]
    removal = [parse_removal("domain", name) for name in ("Bücher.example", "127.0.0.1", "[::1]")]
    assert match_table(documents(urls), removal).tolist() == [0, 1, 2]


def test_a_licence_is_compared_exactly() -> None:
    table = documents([None] * 3, licenses=["CC-BY-4.0", "cc-by-4.0", None])
    assert taken(table, parse_removal("license", "CC-BY-4.0")) == ["license CC-BY-4.0", None, None]


def test_the_narrowest_reason_is_given() -> None:
    table = documents(["http://a.b.org/x"] * 2, ids=[ID, "f" * 32], licenses=["mit", "mit"])
    everything = [
        parse_removal("license", "mit"),
        parse_removal("domain", "b.org"),
        parse_removal("domain", "a.b.org"),
        parse_removal("url", "http://a.b.org/x"),
        parse_removal("id", ID.upper()),
    ]
    assert taken(table, *everything) == [f"id {ID}", "url http://a.b.org/x"]
    assert taken(table, *everything[:3]) == ["domain a.b.org"] * 2
    assert taken(table, everything[0]) == ["license mit"] * 2


def test_tables_without_rows_or_columns_or_removals() -> None:
    table = documents(["http://a.org/"])
    removal = [
        parse_removal("domain", "a.org"),
        parse_removal("license", "mit"),
        parse_removal("id", ID),
    ]
    assert match_table(table, []).tolist() == [-1]
    assert match_table(table.slice(0, 0), removal).tolist() == []
    assert match_table(table.select(["url"]), removal).tolist() == [0]
    assert match_table(table.select(["id"]), removal).tolist() == [-1]
    nulls = pa.table({"id": pa.nulls(2), "url": pa.nulls(2), "license": pa.nulls(2)})
    assert match_table(nulls, removal).tolist() == [-1, -1]
    assert match_table(pa.concat_tables([table, table]), removal).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("url", "", "a value is expected"),
        ("license", "  ", "a value is expected"),
        ("url", "example.org/page", "with its scheme"),
        ("url", "http://", "not a URL"),
        ("domain", "https://example.org/page", r"--domain example\.org\?"),
        ("domain", "example.org:8080", r"--domain example\.org\?"),
        ("domain", "*.example.org", "its subdomains are covered"),
        ("domain", "a..b", "a domain such as"),
        ("id", "abc", "32 hexadecimal digits"),
    ],
)
def test_nonsense_is_refused_with_a_hint(kind: str, value: str, message: str) -> None:
    with pytest.raises(InvalidRemovalError, match=message):
        parse_removal(kind, value)


def test_the_name_of_a_list_does_not_depend_on_its_history() -> None:
    one, other = parse_removal("domain", "a.org"), parse_removal("id", ID)
    assert (
        fingerprint_input([one, other])
        == fingerprint_input([other, one, one])
        != fingerprint_input([one])
    )
    assert fingerprint_input([]) == ()
    assert sort_removals([one, other, one]) == (other, one)


HOSTS = ["a.org", "b.a.org", "A.org.", "ab.org", "x.b.a.org:80", "user@a.org", "bü.a.org", ""]
PATHS = ["", "/", "/p", "/p/", "/./p", "/%70", "/p?", "/p?q=/a", "/p#f", "/ü", "/p q", "\\p", "/.p"]
URLS = st.builds(
    lambda scheme, host, path: f"{scheme}{host}{path}",
    st.sampled_from(["http://", "https://", "HTTP://", "ftp://", "//", ""]),
    st.sampled_from(HOSTS),
    st.sampled_from(PATHS),
)


@given(urls=st.lists(st.one_of(URLS, st.text(max_size=12), st.none()), max_size=20))
def test_rows_are_taken_as_by_definition(urls: list[str | None]) -> None:
    wanted = [parse_removal("url", "http://a.org/p"), parse_removal("domain", "b.a.org")]

    def definition(url: str | None) -> int:
        if url is None:
            return -1
        spelling = canonicalize_url(url)
        if spelling == wanted[0].value:
            return 0
        try:
            host = normalize_host(urlsplit(spelling or url.strip()).hostname or "")
        except ValueError:
            return -1
        return 1 if host is not None and f".{host}".endswith(".b.a.org") else -1

    assert match_table(documents(urls), wanted).tolist() == [definition(url) for url in urls]


@given(url=st.from_regex(re.compile(module._CANONICAL_URL, re.ASCII), fullmatch=True))
def test_an_address_that_looks_canonical_is(url: str) -> None:
    assert canonicalize_url(url.removesuffix("\n")) in (url.removesuffix("\n"), None)
