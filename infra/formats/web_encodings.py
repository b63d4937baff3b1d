"""Encodings as browsers decode them (WHATWG Encoding Standard), and where a page declares its own.

Labels are in `encoding_labels`. Python's codecs decode; they differ from the standard's tables in a few hundred
characters, which are here, and in how many bytes an error covers.
"""

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import webencodings

from infra.formats.encoding_labels import find_encoding

REPLACEMENT = "\ufffd"

# The standard's prescan ends after this many bytes. Browsers still obey a meta tag behind them,
# anywhere in the head, which is searched up to the second limit.
STANDARD_PRESCAN_BYTES, MAX_HEAD_BYTES = 1024, 1 << 16

SEVEN_BIT = frozenset(("iso-2022-jp", "iso2022_kr", "hz"))
MULTI_BYTE = frozenset(("big5", "euc-jp", "euc-kr", "gb18030", "gbk", "shift_jis"))

_CONTROL_PICTURES = "".join(map(chr, range(0x2400, 0x2420))) + "\u2421\u20ac"
# Characters of the standard's Big5 that Python's big5hkscs lacks, by the pointer of the first.
_BIG5_ADDITIONS = {
    1000: "㡵𡵓𣚞𦀡㻬𥣞㫵竼龗𤅡𨤍𣇪𠪊𣉞䌊蒄龖鐯䤰蘓墖靊鈘秐稲晠権袝瑌篅枂稬剏遆",
    1034: "㓦珄𥶹瓆鿇垳䤯呌䄱𣚎堘穲𧭥讏䚮𦺈䆁𥶙箮𢒼鿈𢓁𢓉𢓌鿉蔄𣖻䂴鿊䓡𪷿拁灮鿋", 2082: "箸",
    2088: "簆", 2103: "糎", 2114: "緒", 2123: "縝", 2148: "者", 2151: "耨", 2221: "菁",
    2239: "蒨", 2244: "萏", 2303: "覦覩", 2354: "起", 2400: "都", 2413: "銹", 2477: "靜",
    2498: "響", 2605: "鼖", 2673: "蔃", 2746: "兙兛兝兞", 2771: "鍮", 2780: "瑹", 2990: "浧",
    3087: "禛", 3259: "邗", 3301: "靝", 3436: "瀞", 3451: "嬨", 4136: "爁", 4138: "矗",
    4141: "纇", 4182: "駖", 4206: "釔", 4220: "惞", 4230: "澶", 4241: "輶", 4258: "侻",
    4273: "營", 4279: "鄄", 4282: "鷰", 4294: "菏", 4329: "尐秣", 4349: "婧", 4419: "輋",
    4422: "筑", 4494: "拐", 4624: "恢", 4694: "痹", 4708: "汊", 4742: "鬮", 4748: "鼗",
    4815: "僭", 4828: "弌", 4902: "蠏", 4922: "拎", 4982: "瑨", 4992: "煢", 4997: "牐",
    5432: _CONTROL_PICTURES, 10942: "廴", 10946: "无", 10948: "癶", 10950: "隶", 10957: "〃仝",
    19028: "倩", 19035: "偽", 19088: "包", 19096: "卄", 19112: "卿", 19162: "嘅", 19240: "婷",
    19299: "幵", 19305: "廐", 19326: "彘", 19355: "悤", 19398: "撐", 19439: "晴", 19454: "杞",
    19553: "沜渝", 19557: "港", 19611: "煮", 19643: "猪", 19672: "瑜", 19697: "瓩", 19748: "砉",
}  # fmt: skip
_EXTRA_CHARS = {
    "big5": {
        first + i: char for first, run in _BIG5_ADDITIONS.items() for i, char in enumerate(run)
    }
}

# Characters of Python's codecs that stand for another one in the standard's tables. (Big5's two
# small slashes are left out: Python has one character for two codes.)
_TRANSLATIONS: dict[str, dict[int, int]] = {
    "big5": str.maketrans("•､‾∼♁☉¥¢£", "‧﹑¯～⊕⊙￥￠￡"),
    "euc-jp": str.maketrans("〜‖−¢£¬", "～∥－￠￡￢"),
    "gb18030": str.maketrans(
        "\ue5e5\ue78d\ue78e\ue78f\ue790\ue791\ue792\ue793\ue794\ue795\ue796"
        "\ue7c7\ue81e\ue826\ue82b\ue82c\ue832\ue843\ue854\ue864",
        "\u3000︐︒︑︓︔︕︖︗︘︙ḿ龴龵龶龷龸龹龺龻",
    ),
    "koi8-u": str.maketrans("╝╬", "ўЎ"),
    "shift_jis": dict.fromkeys(range(0xF8F0, 0xF8F4), ord(REPLACEMENT)),
}
_TRANSLATIONS["gbk"] = _TRANSLATIONS["gb18030"]
# The way back, from the standard's character to the codec's.
_WRITTEN = {
    name: {new: old for old, new in table.items() if new != ord(REPLACEMENT)}
    for name, table in _TRANSLATIONS.items()
}

_ESCAPE = re.compile(rb"\x1b(?:\([BJI]|\$[@B])")
_JIS_TO_EUC = bytes(
    byte | 0x80 if 0x21 <= byte <= 0x7E or byte == 0x0F else 0xFF for byte in range(256)
)
_ROMAN = str.maketrans("\\~", "¥‾")


def decode_as_browser(data: bytes, encoding: str) -> str:
    """Decode with an encoding that `find_encoding` returned. Each error becomes one U+FFFD."""
    if encoding == "iso-2022-jp":
        return _decode_iso_2022_jp(data)
    if encoding == "euc-jp":  # Python decodes this one as "~" of ASCII
        data = data.replace(b"\x8f\xa2\xb7", b"\xa1\xc1")
    known = webencodings.lookup(encoding)
    if known is None:
        return data.decode(encoding, "replace")
    errors = _ERROR_HANDLERS.get(encoding, "replace")
    text: str = known.codec_info.decode(data, errors)[0]
    table = _TRANSLATIONS.get(encoding) or {}
    return text.translate(table) if any(chr(char) in text for char in table) else text


def encode_as_browser(text: str, encoding: str, errors: str) -> bytes:
    """The inverse of `decode_as_browser`: the query of a link goes out in its page's encoding."""
    known = webencodings.lookup(encoding)
    if known is None:
        return text.encode(encoding, errors)
    written = text.translate(_WRITTEN.get(encoding, {}))
    data: bytes = known.codec_info.encode(written, errors)[0]
    return data


def _handle_single_byte(error: UnicodeError) -> tuple[str, int]:
    """A byte that Python's table lacks: a C1 control, or one character that was added later."""
    assert isinstance(error, UnicodeDecodeError)
    byte = error.object[error.start]
    if byte < 0xA0:
        return chr(byte), error.start + 1
    # Of the tables with this handler, only that of windows-1255 lacks 0xCA.
    return "\u05ba" if byte == 0xCA else REPLACEMENT, error.start + 1


def _handle_multi_byte(
    error: UnicodeError, is_lead: Callable[[int], bool], find_char: Callable[[int, int], str | None]
) -> tuple[str, int]:
    """A pair that Python's table lacks, or an error, which covers the trail byte unless it is ASCII."""
    assert isinstance(error, UnicodeDecodeError)
    data, start = error.object, error.start
    if not is_lead(data[start]) or start + 1 >= len(data):
        return REPLACEMENT, start + 1
    char = find_char(data[start], data[start + 1])
    if char is not None:
        return char, start + 2
    return REPLACEMENT, start + (1 if data[start + 1] < 0x80 else 2)


def _find_big5(lead: int, trail: int) -> str | None:
    if not (0x40 <= trail <= 0x7E or 0xA1 <= trail <= 0xFE):
        return None
    pointer = (lead - 0x81) * 157 + trail - (0x40 if trail < 0x7F else 0x62)
    return _EXTRA_CHARS["big5"].get(pointer)


def _find_euc_jp(lead: int, trail: int) -> str | None:
    """A character of JIS X 0208 with the additions of NEC and IBM, which Python's cp932 has."""
    if not (0xA1 <= lead <= 0xFE and 0xA1 <= trail <= 0xFE):
        return None
    row, column = divmod((lead - 0xA1) * 94 + trail - 0xA1, 188)
    first = row + (0x81 if row < 0x1F else 0xC1)
    second = column + (0x40 if column < 0x3F else 0x41)
    try:
        return bytes((first, second)).decode("cp932")
    except UnicodeDecodeError:
        return None


@cache
def _ibm_extensions() -> dict[tuple[int, int], str]:
    """IBM's characters that JIS X 0212 lacks, by the two bytes after 0x8F (eucJP-ms).

    Browsers do not know this encoding. The characters follow each other in the order of Windows' table from 0xFA40 on.
    """
    table = b"".join(
        bytes((lead, trail))
        for lead in (0xFA, 0xFB, 0xFC)
        for trail in (*range(0x40, 0x7F), *range(0x80, 0xFD))
        if (lead, trail) < (0xFC, 0x4C)
    ).decode("cp932")
    in_others = "\uffe2\uffe4\u2235"  # negation, broken bar and because: Python's codec lacks two
    added = [
        char
        for char in table
        if char == "\u2116" or (char not in in_others and not char.encode("euc_jp", "ignore"))
    ]
    first = (0xF3 - 0xA1) * 94 + 0xF3 - 0xA1
    places = (divmod(first + index, 94) for index in range(len(added)))
    return {
        (0xA1 + row, 0xA1 + column): char for (row, column), char in zip(places, added, strict=True)
    }


def _handle_euc_jp(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    data, start = error.object, error.start
    if data[start] == 0x8F and start + 2 < len(data) and data[start + 1] >= 0xA1:
        return REPLACEMENT, start + (2 if data[start + 2] < 0x80 else 3)
    return _handle_multi_byte(
        error, lambda byte: byte in (0x8E, 0x8F) or 0xA1 <= byte <= 0xFE, _find_euc_jp
    )


def _handle_eucjp_ms(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    data, start = error.object, error.start
    if data[start] == 0x8F and start + 2 < len(data):
        char = _ibm_extensions().get((data[start + 1], data[start + 2]))
        if char is not None:
            return char, start + 3
    return _handle_euc_jp(error)


def _handle_gb18030(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    if error.object[error.start] == 0x80:  # Windows' euro sign
        return "€", error.start + 1
    return _handle_multi_byte(error, lambda byte: 0x81 <= byte <= 0xFE, lambda *_: None)


def _register(name: str, handler: Callable[[UnicodeError], tuple[str, int]]) -> str:
    codecs.register_error(f"gristmill-{name}", handler)
    return f"gristmill-{name}"


_SINGLE_BYTE = _register("single-byte", _handle_single_byte)
# For Python's codec euc_jp: it then reads eucJP-ms, and U+FFFD for what is no character.
EUCJP_MS_ERRORS = _register("eucjp-ms", _handle_eucjp_ms)
_ERROR_HANDLERS = {
    **{f"windows-{number}": _SINGLE_BYTE for number in (874, *range(1250, 1259))},
    "big5": _register(
        "big5",
        partial(
            _handle_multi_byte, is_lead=lambda byte: 0x81 <= byte <= 0xFE, find_char=_find_big5
        ),
    ),
    "euc-jp": _register("euc-jp", _handle_euc_jp),
    "euc-kr": _register(
        "euc-kr",
        partial(
            _handle_multi_byte, is_lead=lambda byte: 0x81 <= byte <= 0xFE, find_char=lambda *_: None
        ),
    ),
    **dict.fromkeys(("gb18030", "gbk"), _register("gb18030", _handle_gb18030)),
    "shift_jis": _register(
        "shift_jis",
        partial(
            _handle_multi_byte,
            is_lead=lambda byte: 0x81 <= byte <= 0x9F or 0xE0 <= byte <= 0xFC,
            find_char=lambda *_: None,
        ),
    ),
}


def _decode_iso_2022_jp(data: bytes) -> str:
    """Python's codecs for it lack the characters that NEC and IBM added, which Windows writes."""
    parts = []
    start, escape = 0, b"(B"
    for match in [*_ESCAPE.finditer(data), None]:
        segment = data[start : match.start() if match else len(data)]
        if escape.startswith(b"$"):
            parts.append(_decode_jis_0208(segment))
        elif escape == b"(I":
            parts.append("".join(_half_width_katakana(byte) for byte in segment))
        else:
            text = segment.decode("ascii", "replace").translate({0x0E: 0xFFFD, 0x0F: 0xFFFD})
            parts.append(text.translate(_ROMAN) if escape == b"(J" else text)
        if match:
            start, escape = match.end(), match[0][1:]
    return "".join(parts).replace("\x1b", REPLACEMENT)


def _half_width_katakana(byte: int) -> str:
    return chr(byte + 0xFF40) if 0x21 <= byte <= 0x5F else chr(byte) if byte == 10 else REPLACEMENT


def _decode_jis_0208(segment: bytes) -> str:
    """Pairs of bytes, as EUC-JP with the eighth bit cleared.

    Two errors of the standard are read: a line break between pairs, and 0x0F before a pair of
    JIS X 0212, which converters make that only clear the eighth bit.
    """
    return "\n".join(
        decode_as_browser(line.translate(_JIS_TO_EUC), "euc-jp") for line in segment.split(b"\n")
    )


_HEADER_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]+)", re.IGNORECASE)
_CONTENT_CHARSET = re.compile(
    r"charset[\t\n\f\r ]*=[\t\n\f\r ]*(?:\"([^\"]*)\"|'([^']*)'|([^\t\n\f\r ;\"']+))"
)
_XML_DECLARATION = re.compile(
    rb"<\?xml[^>]*?\bencoding[\x00-\x20]*=[\x00-\x20]*(?:\"([^\"\x00-\x20>]+)\"|'([^'\x00-\x20>]+)')"
)
_TAG = re.compile(rb"<(?:(!--)|(/?)([A-Za-z][^\t\n\f\r />]*)|[!/?])")
_ATTRIBUTE = re.compile(
    rb"[\t\n\f\r /]*([^\t\n\f\r />][^\t\n\f\r />=]*)"
    rb"(?:[\t\n\f\r ]*=[\t\n\f\r ]*(?:\"([^\"]*)\"|'([^']*)'|([^\t\n\f\r >]*)))?"
)
_RAW_TEXT = frozenset((b"script", b"style", b"title", b"textarea", b"noframes", b"xmp", b"iframe"))


@dataclass(frozen=True)
class Declarations:
    """The encodings that a page declares; ``None`` where it declares none or an unknown one."""

    header: str | None
    page: str | None


def find_declarations(data: bytes, content_type: str | None) -> Declarations:
    """The encodings in the Content-Type header, and in the page's meta tags or XML declaration."""
    header = _HEADER_CHARSET.search(content_type or "")
    return Declarations(
        find_encoding(header[1]) if header else None, _prescan(data[:MAX_HEAD_BYTES])
    )


def _prescan(head: bytes) -> str | None:
    """The encoding that a page names (WHATWG HTML, "prescan a byte stream").

    The standard's prescan also obeys a meta tag inside a script. When the parser then finds a real
    one, it starts again with that, so tags inside scripts and the like count only if there is no other.
    """
    xml = _XML_DECLARATION.match(head.lstrip(b"\t\n\f\r "))
    if xml and (encoding := find_encoding((xml[1] or xml[2]).decode("latin-1"))):
        return _without_utf16(encoding)
    in_raw_text: str | None = None
    raw_end = 0
    at = 0
    while match := _TAG.search(head, at):
        at = match.end()
        if match[1]:
            end = head.find(b"-->", match.start() + 2)  # "<!-->" is a whole comment
            if end < 0:
                break
            at = end + 3
            continue
        name = (match[3] or b"").lower()
        if not name:
            end = head.find(b">", at)
            if end < 0:
                break
            at = end + 1
            continue
        attributes, at = _read_attributes(head, at)
        if name == b"body" and match.start() >= max(raw_end, STANDARD_PRESCAN_BYTES):
            break
        if name == b"meta" and not match[2]:
            encoding = _meta_encoding(attributes)
            if encoding and match.start() >= raw_end:
                return encoding
            in_raw_text = in_raw_text or encoding
        elif name in _RAW_TEXT and not match[2] and match.start() >= raw_end:
            closing = re.compile(rb"</" + name, re.IGNORECASE).search(head, at)
            raw_end = closing.start() if closing else len(head)
    return in_raw_text


def _read_attributes(head: bytes, at: int) -> tuple[dict[str, str], int]:
    """The attributes of the tag whose name ends at an offset, and where the tag ends."""
    attributes: dict[str, str] = {}
    while match := _ATTRIBUTE.match(head, at):
        at = match.end()
        value = next((group for group in match.groups()[1:] if group is not None), b"")
        attributes.setdefault(match[1].decode("latin-1").lower(), value.decode("latin-1").lower())
    return attributes, at


def _meta_encoding(attributes: dict[str, str]) -> str | None:
    label = attributes.get("charset")
    if label is None and attributes.get("http-equiv") == "content-type":
        match = _CONTENT_CHARSET.search(attributes.get("content", ""))
        label = match and (match[1] or match[2] or match[3])
    encoding = find_encoding(label)
    return _without_utf16(encoding) if encoding else None


def _without_utf16(encoding: str) -> str:
    """A declaration that can be read as ASCII is not in UTF-16 (WHATWG HTML)."""
    if encoding.startswith("utf-16"):
        return "utf-8"
    return "windows-1252" if encoding == "x-user-defined" else encoding
