"""Content-Type headers, as browsers read them."""

import pytest

from infra.formats.media_type import media_type


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        (None, ""),
        ("", ""),
        ("Text/HTML; charset=UTF-8", "text/html"),
        ("text/html, text/html; charset=utf-8", "text/html"),
        ("text/plain, text/html", "text/html"),
        ("text/html, nothing", "text/html"),
        ("text/html, */*", "text/html"),
        ('text/html; name="a,b/c"', "text/html"),
        ("application/xhtml+xml ; q=1", "application/xhtml+xml"),
        ("text/html:charset=utf-8", ""),
        ("html", ""),
        ("unknown/unknown", ""),
    ],
)
def test_the_last_valid_type_counts(header: str | None, kind: str) -> None:
    assert media_type(header) == kind
