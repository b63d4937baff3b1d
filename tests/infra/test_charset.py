"""Text from the bytes of web pages and of plain-text files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.formats.charset import TextDecodeError, codec_for, decode_page, decode_text

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
def test_a_page_is_decoded_in_every_encoding_it_comes_in(
    data: bytes, content_type: str | None, text: str
) -> None:
    page = decode_page(data, content_type)
    assert page.text == text
    assert page.num_replaced == 0


def test_invalid_bytes_of_a_page_are_replaced_and_counted() -> None:
    page = decode_page(
        "caf\u00e9 \ufffd ".encode() + b"\xff and \xfe\xfe", "text/html; charset=utf-8"
    )
    assert page.text == "caf\u00e9 \ufffd \ufffd and \ufffd\ufffd"
    assert page.encoding == "utf-8"
    assert page.num_replaced == 3


def test_a_page_with_a_wrong_declaration_is_decoded_as_detected() -> None:
    page = decode_page(b"\x93quoted\x94 and caf\xe9", "text/html; charset=utf-8")
    assert page.text == "\u201cquoted\u201d and caf\u00e9"
    assert page.num_replaced == 0


def test_zero_characters_are_removed() -> None:
    assert decode_page(b"a\0b", None).text == "ab"


def test_labels_have_the_codecs_that_browsers_use() -> None:
    assert codec_for("ISO-8859-1") == codec_for("us-ascii") == "cp1252"
    assert codec_for("gb2312") == "gb18030"
    assert codec_for("base64") is None
    assert codec_for(None) is None


@given(st.binary(max_size=400), st.sampled_from([None, "utf-8", "latin-1", "utf-16", "utf-7", "x"]))
def test_any_bytes_give_text_that_can_be_encoded(data: bytes, label: str | None) -> None:
    kind = None if label is None else f"text/html; charset={label}"
    page = decode_page(data, kind)
    page.text.encode()
    assert "\0" not in page.text
    assert page == decode_page(data, kind)


@given(st.text(max_size=200))
def test_utf8_is_decoded_as_utf8(text: str) -> None:
    expected = text.replace("\0", "").removeprefix("\ufeff")
    assert decode_page(text.encode(), "text/html; charset=utf-8").text in (expected, text)


PROSE = "The café's naïve façade, “quoted” – and a long tail of plain words after it.\n" * 5
CYRILLIC = "Все счастливые семьи похожи друг на друга.\n" * 5


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("utf-16", "utf-16-le"),
        ("utf-32", "utf-32-le"),
        ("cp1252", "cp1252"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
    ],
)
def test_a_text_file_is_decoded_in_every_encoding_it_comes_in(codec: str, name: str) -> None:
    assert decode_text(PROSE.encode(codec)) == (PROSE, name)


def test_plain_ascii_in_utf_16_without_a_mark() -> None:
    assert decode_text("plain words only".encode("utf-16-be"))[0] == "plain words only"


def test_a_gutenberg_header_may_declare_the_encoding() -> None:
    text = "Character set encoding: KOI8-R\r\n\r\n" + CYRILLIC
    assert decode_text(text.encode("koi8-r")) == (text, "koi8-r")


def test_a_declared_label_without_a_codec_is_ignored() -> None:
    text = "Character set encoding: ISO Latin-1\n" + PROSE
    assert decode_text(text.encode("cp1252")) == (text, "cp1252")


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b"good \xe9t\x81 more words", 7),  # 0x81 is invalid in cp1252
        (CYRILLIC.encode("koi8-r"), 0),  # would read as "\xf7\xd3\xc5": not Western
        ("naïve ".encode() * 9 + b"\xff tail", 63),  # UTF-8 with one broken byte, not cp1252
        (b"\x89PNG\r\n\x1a\n" + b"\x00\x01" * 50, 8),
        (b"text \xe9 with a \x02 control byte", 14),
        (b"\xef\xbb\xbfmarked as UTF-8, \xff but not", 20),
        (b"\xff\xfea\x00b", 4),
    ],
)
def test_a_file_that_is_not_text_fails_at_a_byte(data: bytes, offset: int) -> None:
    with pytest.raises(TextDecodeError) as caught:
        decode_text(data)
    assert caught.value.offset == offset
