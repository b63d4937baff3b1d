"""Text from the bytes of web pages and of plain-text files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.formats.charset import TextDecodeError, decode_page, decode_text
from tests.infra.book_texts import TEXTS, encoded_texts

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


def _page(text: str, encoding: str, head: str = "") -> bytes:
    return f"<html><head>{head}<title>t</title></head><body><p>{text}</p></body></html>".encode(
        encoding
    )


@pytest.mark.parametrize(
    ("encoding", "head", "content_type"),
    [
        ("cp1251", "", "text/html; charset=utf-8"),
        ("cp1251", "", "text/html; charset=iso-8859-1"),
        ("cp1251", "<meta charset=windows-1251>", "text/html; charset=utf-8"),
        ("cp1251", "<meta charset=windows-1251>", "text/html; charset=iso-8859-1"),
        ("cp1251", "<!-- <meta charset=iso-8859-1> --><meta charset=windows-1251>", None),
        ("utf-16-le", "", None),
        ("utf-16-be", "", "text/html; charset=utf-16be"),
        ("koi8-r", "<meta charset=utf-8>", None),
        ("utf-8", "<meta charset=windows-1251>", "text/html; charset=koi8-r"),
    ],
)
def test_a_wrong_declaration_does_not_decide(
    encoding: str, head: str, content_type: str | None
) -> None:
    page = decode_page(_page(RUSSIAN, encoding, head), content_type)
    assert RUSSIAN in page.text
    assert page.num_replaced == 0


@pytest.mark.parametrize(
    ("head", "content_type"),
    [("", "text/html; charset=iso-8859-1"), ("<meta charset=iso-8859-1>", "text/html")],
)
def test_a_quotation_in_utf_8_does_not_make_a_latin_1_page_another(
    head: str, content_type: str
) -> None:
    quotation = "\u2019\u00e9t\u00e9"
    data = _page(TEXTS["fr"] + "#QUOTATION#", "cp1252", head)
    page = decode_page(data.replace(b"#QUOTATION#", quotation.encode()), content_type)
    assert TEXTS["fr"] + quotation.encode().decode("cp1252") in page.text
    assert page.num_replaced == 0


def test_the_polish_page_of_a_server_that_declares_latin_1_is_polish() -> None:
    page = decode_page(_page(TEXTS["pl"], "cp1250"), "text/html; charset=ISO-8859-1")
    assert TEXTS["pl"] in page.text


def test_a_page_with_a_wrong_declaration_is_decoded_as_detected() -> None:
    page = decode_page(b"\x93quoted\x94 and caf\xe9", "text/html; charset=utf-8")
    assert page.text == "\u201cquoted\u201d and caf\u00e9"
    assert page.num_replaced == 0


@pytest.mark.parametrize(
    ("language", "encoding", "bad", "shown"),
    [
        ("fr", "windows-1252", b"\x81", "\x81"),
        ("pl", "windows-1250", b"\x98", "\x98"),
        ("pl", "iso-8859-2", b"\x85", "\x85"),
        ("el", "windows-1253", b"\xd2", "\ufffd"),
        ("he", "windows-1255", b"\xd9", "\ufffd"),
        ("th", "windows-874", b"\xdb", "\ufffd"),
        ("zh-Hans", "gb18030", b"\xff", "\ufffd"),
        ("zh-Hant", "big5", b"\x80", "\ufffd"),
        ("ja", "shift_jis", b"\xfd", "\ufffd"),
        ("ja", "euc-jp", b"\xff", "\ufffd"),
        ("ko", "euc-kr", b"\xff", "\ufffd"),
        ("fr", "utf-8", b"\xe9", "\ufffd"),
    ],
)
def test_one_bad_byte_is_one_character_and_not_another_encoding(
    language: str, encoding: str, bad: bytes, shown: str
) -> None:
    codec = {"windows-874": "cp874"}.get(encoding, encoding)
    data = _page(TEXTS[language] + "#BAD#", codec).replace(b"#BAD#", bad + b"<b>")
    for content_type in (f"text/html; charset={encoding}", "text/html"):
        page = decode_page(data, content_type)
        assert TEXTS[language] + shown + "<b>" in page.text
        assert page.num_replaced == (shown == "\ufffd")


@pytest.mark.parametrize(
    "data",
    [
        b"<script>caf\xe9</script>",
        b"<!-- caf\xe9",
        b"<script>" * 20_000 + b"\xe9",
        b"<!--" * 20_000 + b"\xe9",
        b"<a b='" * 20_000 + b"\xe9",
        b"<meta charset='x" * 20_000 + b"\xe9",
    ],
)
def test_a_page_without_text_or_without_closed_tags_is_decoded(data: bytes) -> None:
    assert decode_page(data, None).text.count("\xe9") == 1


def test_two_declarations_of_multi_byte_encodings_are_decided_by_the_bytes() -> None:
    data = _page(TEXTS["ja"], "euc_jp", "<meta charset=euc-jp>")
    assert TEXTS["ja"] in decode_page(data, "text/html; charset=shift_jis").text


def test_a_page_without_a_declaration_is_decoded_by_its_letters() -> None:
    wrong = [
        (language, encoding, page.encoding)
        for language, encoding, text in encoded_texts()
        if encoding != "hz"
        for page in [decode_page(_page(text, encoding), "text/html")]
        if text not in page.text
    ]
    assert wrong == []


def test_zero_characters_are_removed() -> None:
    assert decode_page(b"a\0b", None).text == "ab"


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


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_of_joined_files_are_no_text(codec: str) -> None:
    assert decode_text(PROSE.encode(codec) * 2)[0] == PROSE * 2


def test_a_declared_label_without_a_codec_is_ignored() -> None:
    text = "Character set encoding: ISO Latin-1\n" + PROSE
    assert decode_text(text.encode("cp1252")) == (text, "cp1252")


@pytest.mark.parametrize(
    "repetitions", [pytest.param(1, id="a page"), pytest.param(12, id="a chapter")]
)
def test_books_in_every_encoding_of_their_language_are_read_as_written(repetitions: int) -> None:
    wrong = []
    for language, encoding, passage in encoded_texts():
        text = "\n\n".join([passage] * repetitions)
        decoded, found = decode_text(text.encode(encoding))
        if decoded != text:
            wrong.append((language, encoding, found))
    assert wrong == []


def test_a_wrong_declaration_in_a_gutenberg_header_does_not_decide() -> None:
    text = "Character set encoding: ISO-8859-1\r\n\r\n" + TEXTS["pl"]
    assert decode_text(text.encode("cp1250")) == (text, "cp1250")


def test_letters_that_no_language_uses_together_are_no_text() -> None:
    letters = [chr(code) for code in range(0xC0, 0x100)]
    data = " ".join(f"b{a}{b}c" for a in letters for b in reversed(letters)).encode("latin-1")
    with pytest.raises(TextDecodeError):
        decode_text(data)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-7", "Le marché d'été à Noël, ça va très bien.\n"),
        ("cp1125", TEXTS["uk"]),
        ("kz1048", "Қазақстан тәуелсіз мемлекет. Өңірлердің дамуы үшін жұмыстар атқарылуда.\n" * 3),
        ("cp850", "ÅTTIOÅRIGA MÄN ÄTER RÖDBETOR PÅ ÖN.\n" * 5),
        ("cp850", "It cost £5. " * 10 + "The end came quickly, and nobody saw it."),
        ("mac_croatian", "Đak je čekao žuti vlak, a ćup je šupalj.\n" * 5),
        (
            "cp437",
            "╔════════╗\n║ readme ║\n╚════════╝\nGrüße aus Köln, schöne Welt für alle.\n" * 3,
        ),
        ("cp866", "┌──────┐\n│Привет│\n└──────┘\nЭто простая программа.\n" * 4),
        ("mac_roman", "“Hello,” she said — “it’s fine.” Then she left the room.\n" * 6),
    ],
)
def test_further_texts_are_read_as_written(encoding: str, text: str) -> None:
    assert decode_text(text.encode(encoding))[0] == text


# Texts with letters that few encodings have, as their countries' books are written.
TATAR = "Татарстан Республикасы составындагы дәүләт. Җиңү көне бәйрәме һәр елны үткәрелә.\n"
BASHKIR = "Башҡортостан Республикаһы составындағы хоҡуҡи дәүләт. Ҡала ҙур, сәскәләр матур.\n"
UZBEK = "Ўзбекистон демократик республика ҳисобланади. Ҳамма фуқаролар тенг ҳуқуқлидир.\n"
TAJIK = "Тоҷикистон ҷумҳурии соҳибистиқлол, демократӣ ва ягонаи миллӣ мебошад. Рӯзи хуб.\n"
KAZAKH = "Ол кісі ауылда тұрады, әкесі мен анасы да сонда. Біз жаңа үйге көштік.\n"


@pytest.mark.parametrize("times", [1, 12])
@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        *(("ptcp154", text) for text in (KAZAKH, TATAR, BASHKIR, UZBEK, TAJIK)),
        ("kz1048", KAZAKH),
        ("koi8_t", TAJIK),
    ],
)
def test_asian_cyrillic_is_read_as_written(encoding: str, text: str, times: int) -> None:
    data = (text * times).encode(encoding)
    assert decode_text(data)[0] == text * times
    assert text in decode_page(b"<p>" + data, None).text


# What NEC and IBM added to Japanese, in Windows' forms of each encoding: the bytes of two names and of
# "①㈱㍻Ⅰ". JIS X 0213 has other characters (郄, 粼) for the first two.
WINDOWS_JAPANESE = "髙﨑①㈱㍻"
WINDOWS_BYTES = {
    "cp932": b"\xfb\xfc\xfa\xb1\x87\x40\x87\x8a\x87\x7e",
    "cp932, chosen by NEC": b"\xee\xe0\xed\x95\x87\x40\x87\x8a\x87\x7e",
    "cp51932": b"\xfc\xe2\xf9\xf5\xad\xa1\xad\xea\xad\xdf",
    "eucjp-ms": b"\x8f\xf4\xfb\x8f\xf4\xbd\xad\xa1\xad\xea\xad\xdf",
    "cp50221": b"\x1b$B\x7c\x62\x79\x75\x2d\x21\x2d\x6a\x2d\x5f\x1b(B",
}


@pytest.mark.parametrize("name", WINDOWS_BYTES)
def test_japanese_books_have_the_characters_of_windows(name: str) -> None:
    codec = "cp932" if "932," in name or name == "cp932" else "euc_jp"
    codec = "iso2022_jp" if name == "cp50221" else codec
    for text in (TEXTS["ja"], TEXTS["ja"] * 12):
        data = text.encode(codec) + WINDOWS_BYTES[name]
        assert decode_text(data)[0] == text + WINDOWS_JAPANESE
        if name != "eucjp-ms":  # which browsers do not read
            assert WINDOWS_JAPANESE in decode_page(data, None).text


@pytest.mark.parametrize("encoding", ["euc_jis_2004", "shift_jis_2004"])
def test_characters_that_only_jis_x_0213_has_are_read(encoding: str) -> None:
    text = TEXTS["ja"] + "か゚き゚く゚と言う。俱に𠮟る。"
    assert decode_text(text.encode(encoding))[0] == text


def test_an_encoding_without_a_codec_is_refused() -> None:
    mazovia = dict(zip("ąćęłńóśźżŹ", b"\x86\x8d\x91\x92\xa4\xa2\x9e\xa6\xa7\xa0", strict=True))
    data = b"".join(
        bytes([mazovia[char]]) if char in mazovia else char.encode() for char in TEXTS["pl"]
    )
    with pytest.raises(TextDecodeError):
        decode_text(data)


def test_escapes_of_a_terminal_are_not_those_of_an_encoding() -> None:
    assert decode_text(b"\x1b[31mred\x1b[0m text, x = {~{1}} +ABC- C++-style")[1] == "utf-8"


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b"plain \x1b$)A\x0e<:Ky\x0f", 6),  # ISO-2022-CN, which Python has no codec for
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
