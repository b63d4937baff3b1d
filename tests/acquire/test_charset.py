import pytest

from tasks.acquire.charset import TextDecodeError, decode_text

PROSE = "The café's naïve façade, “quoted” – and a long tail of plain words after it.\n" * 5
RUSSIAN = "Все счастливые семьи похожи друг на друга.\n" * 5


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
def test_text_is_read_in_every_encoding_it_comes_in(codec: str, name: str) -> None:
    assert decode_text(PROSE.encode(codec)) == (PROSE, name)


def test_plain_ascii_in_utf_16_without_a_mark() -> None:
    assert decode_text("plain words only".encode("utf-16-be"))[0] == "plain words only"


def test_a_gutenberg_header_may_declare_the_encoding() -> None:
    text = "Character set encoding: KOI8-R\r\n\r\n" + RUSSIAN
    assert decode_text(text.encode("koi8-r")) == (text, "koi8-r")


def test_a_declared_encoding_that_is_no_codec_is_ignored() -> None:
    text = "Character set encoding: ISO Latin-1\n" + PROSE
    assert decode_text(text.encode("cp1252")) == (text, "cp1252")


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b"good \xe9t\x81 more words", 7),  # 0x81 stands for nothing in cp1252
        (RUSSIAN.encode("koi8-r"), 0),  # would read as "\xf7\xd3\xc5": not Western
        ("naïve ".encode() * 9 + b"\xff tail", 63),  # UTF-8 with one broken byte, not cp1252
        (b"\x89PNG\r\n\x1a\n" + b"\x00\x01" * 50, 8),
        (b"text \xe9 with a \x02 control byte", 14),
        (b"\xef\xbb\xbfmarked as UTF-8, \xff but not", 20),
        (b"\xff\xfea\x00b", 4),
    ],
)
def test_what_cannot_be_text_fails_at_a_byte(data: bytes, offset: int) -> None:
    with pytest.raises(TextDecodeError) as caught:
        decode_text(data)
    assert caught.value.offset == offset
