"""Canonical URLs and scope."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.formats.urls import redirect_target
from tasks.acquire.web.scope import MAX_URL_LENGTH, Scope, canonicalize_url, host, origin

BASE = "https://h.example/a/b?c"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("HTTP://Example.COM:80", "http://example.com/"),
        ("https://example.com:443/x#part", "https://example.com/x"),
        ("http://example.com:8080/", "http://example.com:8080/"),
        ("http://example.com./", "http://example.com/"),
        ("http://a/./b/../c", "http://a/c"),
        ("http://a/..//b/", "http://a//b/"),
        ("http://a/%2e%2e/b", "http://a/b"),
        ("http://a/b/..", "http://a/"),
        ("http://a/c%7e%2f%zz", "http://a/c~%2F%25zz"),
        ("http://a/b c\u00e9", "http://a/b%20c%C3%A9"),
        ("http://a/?b=2&a=1&a=0", "http://a/?b=2&a=1&a=0"),
        ("http://a?x", "http://a/?x"),
        ("http://a/x?", "http://a/x"),
        ("  http://a/x\n\ty ", "http://a/xy"),
        ("http://a\\b\\c?d\\e", "http://a/b/c?d%5Ce"),
        ("http://\u00e9.example/", "http://xn--9ca.example/"),
        ("http://stra\u00dfe.example/", "http://xn--strae-oqa.example/"),
        ("http://Stra%C3%9Fe.example/", "http://xn--strae-oqa.example/"),
        ("http://\u03b2\u03cc\u03bb\u03bf\u03c2.example/", "http://xn--nxasmm1c.example/"),
        ("http://\u2603.example/", "http://xn--n3h.example/"),
        ("http://my_b\u00fccher.example/", "http://xn--my_bcher-95a.example/"),
        ("http://ex\uff41mple\u3002com/", "http://example.com/"),
        ("http://[::1]:8080", "http://[::1]:8080/"),
    ],
)
def test_canonical_urls(raw: str, expected: str) -> None:
    assert canonicalize_url(raw) == expected


@pytest.mark.parametrize(
    "raw",
    ["mailto:a@b", "javascript:void(0)", "ftp://a/", "http:///x", "http://u:p@a/", "http://a:99999/",
     "http://[::1/", "http://a b/", "", "/x", "http://a/" + "x" * MAX_URL_LENGTH, "http://./"],
)  # fmt: skip
def test_other_strings_are_not_web_urls(raw: str) -> None:
    assert canonicalize_url(raw) is None


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("d", "https://h.example/a/d"),
        ("/d", "https://h.example/d"),
        ("//i/d", "https://i/d"),
        ("?e", "https://h.example/a/b?e"),
        ("#f", "https://h.example/a/b?c"),
        ("..", "https://h.example/"),
        ("../../../d", "https://h.example/d"),
        ("http://x", "http://x/"),
    ],
)
def test_relative_links(link: str, expected: str) -> None:
    assert canonicalize_url(link, BASE) == expected


@given(st.text(max_size=60))
def test_canonicalization_is_idempotent(text: str) -> None:
    for raw in (f"http://h.example/{text}", f"http://h.example/?{text}", f"http://{text}/", text):
        once = canonicalize_url(raw)
        if once is not None:
            assert canonicalize_url(once) == once
            assert canonicalize_url(once, BASE) == once
            assert once.isascii()
            assert "#" not in once


def test_origin_and_host() -> None:
    assert origin("http://a.example:81/x?y") == "http://a.example:81"
    assert host("http://a.example:81/x?y") == "a.example"


def test_the_default_scope_is_the_servers_of_the_start_urls() -> None:
    scope = Scope(["http://a.example:81/x"])
    assert "http://a.example:81/y" in scope
    assert "https://a.example:81/y" in scope
    assert "http://a.example/y" not in scope
    assert "http://www.a.example:81/" not in scope


def test_scope_by_patterns() -> None:
    scope = Scope(["http://a/"], allow=[r"^http://b/", r"/docs/"], deny=[r"\?print"])
    assert "http://b/x" in scope
    assert "http://c/docs/x" in scope
    assert "http://a/x" not in scope
    assert "http://b/x?print=1" not in scope


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/\u00fcn".encode(), "https://h.example/%C3%BCn"),
        ("/caf\u00e9?q=\u00e9".encode("latin-1"), "https://h.example/caf%E9?q=%E9"),
        ("http://stra\u00dfe.example/".encode(), "http://xn--strae-oqa.example/"),
        (b"/a%20b%c3%bc", "https://h.example/a%20b%C3%BC"),
        (b"mailto:x@y", None),
    ],
)
def test_a_location_is_a_sequence_of_bytes(location: bytes, target: str | None) -> None:
    assert redirect_target(location.decode("latin-1"), BASE) == target
