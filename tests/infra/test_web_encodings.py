"""Labels, declarations and tables of the WHATWG Encoding Standard."""

import hashlib

import pytest
from webencodings.labels import LABELS

from infra.formats.encoding_labels import find_encoding
from infra.formats.web_encodings import decode_as_browser, find_declarations

# SHA-256 over the characters of the standard's index files (encoding.spec.whatwg.org/indexes.json,
# 2026-05), in the order of their bytes; Big5 without the two slashes that Python has once.
_MULTI_BYTE_TABLES = {
    "big5": (18592, "db256a867ceca99c"),
    "euc-jp": (7336 + 6067, "17818c3f857dc77f"),
    "euc-kr": (17048, "f49bf642f090c1ce"),
    "gb18030": (23940, "85373408efe24c65"),
    "shift_jis": (7724, "e7ea4b06943d4e4c"),
}
_SINGLE_BYTE_TABLES = "9982ee7f48d0b3f8"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _pairs(encoding: str, first: bytes = b"") -> list[str]:
    pairs = [bytes((lead, trail)) for lead in range(0x81, 0xFF) for trail in range(0x40, 0xFF)]
    decoded = [
        decode_as_browser(first + pair, encoding)
        for pair in pairs
        if not (encoding == "big5" and pair in (b"\xa2\x41", b"\xa2\x42"))
        # Half-width katakana stand alone, and U+E000 to U+F8FF are for private use.
        and not (encoding == "shift_jis" and (0xA0 <= pair[0] <= 0xDF or pair[0] >= 0xF0))
        and not (encoding == "euc-jp" and min(pair) < 0xA1)
    ]
    if encoding == "shift_jis":
        decoded += [
            decode_as_browser(bytes((lead, trail)), encoding)
            for lead in range(0xFA, 0xFD)
            for trail in range(0x40, 0xFD)
        ]
    return [char for char in decoded if "\ufffd" not in char]


@pytest.mark.parametrize("encoding", _MULTI_BYTE_TABLES)
def test_every_character_of_a_multi_byte_encoding_is_the_standards(encoding: str) -> None:
    chars = _pairs(encoding)
    if encoding == "euc-jp":
        chars += _pairs(encoding, b"\x8f")
    assert (len(chars), _digest("".join(chars))) == _MULTI_BYTE_TABLES[encoding]


def test_every_character_of_the_single_byte_encodings_is_the_standards() -> None:
    names = sorted(
        name
        for name in set(LABELS.values())
        if name.startswith(("ibm", "iso-8859", "koi8", "mac", "windows", "x-mac"))
        and name != "iso-8859-8-i"
    )
    upper_half = bytes(range(0x80, 0x100))
    tables = "".join(name + decode_as_browser(upper_half, name) for name in names)
    assert _digest(tables) == _SINGLE_BYTE_TABLES


@pytest.mark.parametrize(
    ("encoding", "data", "text"),
    [
        ("big5", b"\x88\x62\xfa", "\xca\u0304\ufffd"),
        ("big5", b"\xa4", "\ufffd"),
        ("big5", b"\xf9\xffA", "\ufffdA"),
        ("gbk", b"\x80 5", "€ 5"),
        ("gb18030", b"\x84\x31\xa4\x37 \x81\x30", "\ufffd \ufffd0"),
        ("shift_jis", b"\x81<b>\xa0", "\ufffd<b>\ufffd"),
        ("euc-jp", b"\xad\xa1\xad\xe2\x8e\xb1", "①№ｱ"),
        ("euc-jp", b"\x8f\xa2\xb7\x8f\xa2\xf1", "～№"),
        ("euc-jp", b"\xa4<p>\x8f\xa2", "\ufffd<p>\ufffd"),
        ("euc-kr", b"\x8cc\xb9\xe6 \xc9\xa1", "똠방 \ufffd"),
        ("iso-2022-jp", b"a\x1b$B-!0l\x1b(B\\\x1b(J\\~\x1b(I1", "a①一\\¥‾ｱ"),
        ("iso-2022-jp", b"\x1b$B$\x22\n$\x24\x1b(Bz", "あ\nいz"),
        ("iso-2022-jp", b"\x1b$B\x0f\x22q\x1b(B", "№"),
        ("windows-1252", b"\x80\x81", "€\x81"),
        ("windows-1253", b"\xd2", "\ufffd"),
        ("windows-1255", b"\xca", "\u05ba"),
        ("koi8-u", b"\xae\xbe", "ўЎ"),
        ("x-user-defined", b"a\x80", "a\uf780"),
        ("iso2022_kr", b"\x1b$)C\x0e0!\x0f", "가"),
    ],
)
def test_bytes_are_decoded_as_browsers_do(encoding: str, data: bytes, text: str) -> None:
    assert decode_as_browser(data, encoding) == text


@pytest.mark.parametrize(
    ("label", "encoding"),
    [
        ("ISO-8859-1", "windows-1252"),
        ("us-ascii", "windows-1252"),
        (" Latin1\n", "windows-1252"),
        ("latin-1", "windows-1252"),
        ("iso-8859-9", "windows-1254"),
        ("tis-620", "windows-874"),
        ("gb2312", "gbk"),
        ("x-gbk", "gbk"),
        ("ks_c_5601-1987", "euc-kr"),
        ("big5-hkscs", "big5"),
        ("x-x-big5", "big5"),
        ("ms_kanji", "shift_jis"),
        ("sjis", "shift_jis"),
        ("cp949", "euc-kr"),
        ("macintosh", "macintosh"),
        ("x-mac-ukrainian", "x-mac-cyrillic"),
        ("logical", "iso-8859-8-i"),
        ("visual", "iso-8859-8"),
        ("dos-874", "windows-874"),
        ("sun_eu_greek", "iso-8859-7"),
        ("unicode", "utf-16le"),
        ("unicode-1-1-utf-8", "utf-8"),
        ("utf-16", "utf-16le"),
        ("hz-gb-2312", "hz"),
        ("cp437", "cp437"),
        ("eucJP-win", "euc-jp"),
        ("CP51932", "euc-jp"),
        ("cp50221", "iso-2022-jp"),
        ("utf8mb4", "utf-8"),
        ("win-1251", "windows-1251"),
        ("windows1252", "windows-1252"),
        ("x-mac-greek", "mac-greek"),
        ("utf-7", None),
        ("base64", None),
        ("klingon", None),
        ("", None),
        (None, None),
    ],
)
def test_labels_mean_what_they_mean_to_browsers(label: str | None, encoding: str | None) -> None:
    assert find_encoding(label) == encoding


def test_every_label_of_the_standard_is_known() -> None:
    unknown = {label for label in LABELS if find_encoding(label) is None}
    assert unknown == {"iso-2022-cn", "iso-2022-cn-ext", "replacement"}


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        (b"<meta charset=koi8-r>", "koi8-r"),
        (b"<META CHARSET = 'koi8-r' />", "koi8-r"),
        (b'<meta name=x charset="koi8-r">', "koi8-r"),
        (b'<meta http-equiv=Content-Type content="text/html; charset=koi8-r">', "koi8-r"),
        (b"<meta content='text/html;charset = \"koi8-r\"' http-equiv=content-type>", "koi8-r"),
        (b'<meta content="text/html; charset=koi8-r">', None),  # no http-equiv
        (b'<meta name=description content="charset=koi8-r">', None),
        (b"<meta charset=klingon><meta charset=koi8-r>", "koi8-r"),
        (b"<meta charset=utf-8 charset=koi8-r>", "utf-8"),
        (b"<!-- <meta charset=utf-8> --><meta charset=koi8-r>", "koi8-r"),
        (b"<!--><meta charset=koi8-r>", "koi8-r"),
        (b"<!-- <meta charset=koi8-r>", None),
        (b"<a title='<meta charset=utf-8>'><meta charset=koi8-r>", "koi8-r"),
        (b"<? <meta charset=utf-8> ?><meta charset=koi8-r>", "koi8-r"),
        (b"<script>'<meta charset=utf-8>'</script><meta charset=koi8-r>", "koi8-r"),
        (b"<title>about <meta charset=utf-8></title><meta charset=koi8-r>", "koi8-r"),
        (b"<script>'<meta charset=koi8-r>'</script>", "koi8-r"),
        (b"<metadata charset=utf-8><meta charset=koi8-r>", "koi8-r"),
        (b"<meta charset=utf-16>", "utf-8"),
        (b"<meta charset=x-user-defined>", "windows-1252"),
        (b'<?xml version="1.0" encoding="koi8-r"?>', "koi8-r"),
        (b"<?xml version='1.0' encoding='koi8-r'?><meta charset=utf-8>", "koi8-r"),
        (b"<style>" + b"x" * 9000 + b"</style><meta charset=koi8-r>", "koi8-r"),
        (b"<body>" + b"x" * 2000 + b"<meta charset=koi8-r>", "koi8-r"),
        (b"x" * 2000 + b"<body><meta charset=koi8-r>", None),
        (b"<meta charset=", None),
        (b"<", None),
        (b"", None),
    ],
)
def test_the_declaration_in_a_page_is_the_one_that_browsers_obey(
    head: bytes, encoding: str | None
) -> None:
    assert find_declarations(head, None).page == encoding


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        ("text/html; charset=koi8-r", "koi8-r"),
        ('text/html;CHARSET="koi8-r"', "koi8-r"),
        ("text/html; charset='koi8-r'", "koi8-r"),
        ("text/html; charset=koi8-r; charset=utf-8", "koi8-r"),
        ("text/html", None),
        (None, None),
    ],
)
def test_the_declaration_in_the_header(content_type: str | None, encoding: str | None) -> None:
    assert find_declarations(b"", content_type).header == encoding
