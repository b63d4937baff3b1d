"""Which characters a page's bytes stand for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.extract.encoding import codec_for, decode_page

FRENCH = "D\u00e9j\u00e0 vu \u00e0 No\u00ebl"
RUSSIAN = (
    "\u041c\u0435\u043b\u044c\u043d\u0438\u0446\u0430 \u043c\u0435\u043b\u0435\u0442 \u043c\u0435\u0434\u043b\u0435\u043d\u043d\u043e, \u043d\u043e \u0432\u0435\u0440\u043d\u043e. "
    * 20
)
JAPANESE = "\u6c34\u8eca\u306f\u3086\u3063\u304f\u308a\u56de\u308b\u3002" * 20


@pytest.mark.parametrize(
    ("data", "content_type", "text"),
    [
        (FRENCH.encode(), None, FRENCH),
        (FRENCH.encode(), "text/html; charset=iso-8859-1", FRENCH),  # a server's default
        (FRENCH.encode("latin-1"), "text/html; charset=ISO-8859-1", FRENCH),
        (b"<meta charset=latin1>" + FRENCH.encode("latin-1"), None, "<meta charset=latin1>" + FRENCH),
        (b'<?xml version="1.0" encoding="iso-8859-15"?>\xa4', None,
         '<?xml version="1.0" encoding="iso-8859-15"?>\u20ac'),
        (b"\x93quoted\x94", "text/html; charset=latin-1", "\u201cquoted\u201d"),
        (b"\xef\xbb\xbf" + FRENCH.encode(), "text/html; charset=latin-1", FRENCH),
        (b"\xff\xfe" + FRENCH.encode("utf-16-le"), None, FRENCH),
        (FRENCH.encode("utf-16-le"), "text/html; charset=utf-16le", FRENCH),
        (RUSSIAN.encode("koi8-r"), "text/html; charset=KOI8-R", RUSSIAN),
        (RUSSIAN.encode("cp1251"), None, RUSSIAN),
        (JAPANESE.encode("shift_jis"), "text/html; charset=Shift_JIS", JAPANESE),
        (JAPANESE.encode("iso2022_jp"), "text/html; charset=iso-2022-jp", JAPANESE),
        (JAPANESE.encode("euc_jp"), None, JAPANESE),
        (b"plain ascii", "text/html; charset=klingon", "plain ascii"),
        (b"", None, ""),
    ],
)  # fmt: skip
def test_decode(data: bytes, content_type: str | None, text: str) -> None:
    found = decode_page(data, content_type)
    assert found.text == text
    assert found.num_replaced == 0


def test_what_stands_for_nothing_is_replaced_and_counted() -> None:
    found = decode_page(
        "caf\u00e9 \ufffd ".encode() + b"\xff and \xfe\xfe", "text/html; charset=utf-8"
    )
    assert found.text == "caf\u00e9 \ufffd \ufffd and \ufffd\ufffd"
    assert found.encoding == "utf-8"
    assert found.num_replaced == 3


def test_a_page_that_is_not_what_it_says_is_read_as_what_it_looks_like() -> None:
    found = decode_page(b"\x93quoted\x94 and caf\xe9", "text/html; charset=utf-8")
    assert found.text == "\u201cquoted\u201d and caf\u00e9"
    assert found.num_replaced == 0


def test_zeros_go() -> None:
    assert decode_page(b"a\0b", None).text == "ab"


def test_labels_are_what_browsers_take_them_for() -> None:
    assert codec_for("ISO-8859-1") == codec_for("us-ascii") == "cp1252"
    assert codec_for("gb2312") == "gb18030"
    assert codec_for("base64") is None
    assert codec_for(None) is None


@given(st.binary(max_size=400), st.sampled_from([None, "utf-8", "latin-1", "utf-16", "utf-7", "x"]))
def test_any_bytes_give_text_that_can_be_written(data: bytes, label: str | None) -> None:
    kind = None if label is None else f"text/html; charset={label}"
    found = decode_page(data, kind)
    found.text.encode()
    assert "\0" not in found.text
    assert found == decode_page(data, kind)


@given(st.text(max_size=200))
def test_utf8_is_read_as_such(text: str) -> None:
    expected = text.replace("\0", "").removeprefix("\ufeff")
    assert decode_page(text.encode(), "text/html; charset=utf-8").text in (expected, text)
