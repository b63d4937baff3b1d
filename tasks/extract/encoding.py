"""Which characters a page's bytes stand for."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_HEADER_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]+)", re.I)
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]+)", re.I)
_XML_ENCODING = re.compile(rb"^\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9_.:-]+)", re.I)
_PRESCAN_BYTES = 4096  # bytes; browsers look at 1024, and many pages declare theirs a little later

# Labels that mean Windows-1252 and so on in practice (WHATWG Encoding, section 4.2): pages that
# say Latin-1 use the characters Windows puts in its place.
_WHATWG_CODECS = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
}
# Encodings whose text is made of ASCII bytes: that it is valid UTF-8 says nothing.
_SEVEN_BIT = ("iso2022", "hz", "utf-7")

REPLACEMENT = "\ufffd"


@dataclass(frozen=True)
class DecodedPage:
    """A page as text.

    Attributes:
        text: valid Unicode without zero characters.
        encoding: Python's name of the encoding it was read in.
        num_replaced: bytes, or runs of bytes, that stood for nothing and became U+FFFD.
    """

    text: str
    encoding: str
    num_replaced: int


def codec_for(label: str | None) -> str | None:
    """Python's name for an encoding label as browsers understand it; ``None`` if unknown."""
    if not label:
        return None
    try:
        name = codecs.lookup(label.strip()).name
        "".encode(name)
    except (LookupError, ValueError):
        return None
    return _WHATWG_CODECS.get(name, name)


def decode_page(data: bytes, content_type: str | None) -> DecodedPage:
    """Reads a page's bytes.

    In this order: a byte order mark; UTF-8, if the bytes beyond ASCII are valid UTF-8, whatever is
    declared, because they are so by accident practically never; the charset of the Content-Type
    header; that of a meta tag or XML declaration; detection from the bytes. The first that fits
    without an error wins; so does UTF-8 with errors, if most of what is beyond ASCII is valid. If
    none does, the first one declared is used. What is invalid is replaced and counted.

    Args:
        data: the page.
        content_type: its Content-Type header.
    """
    for mark, name in _BOMS:
        if data.startswith(mark):
            return _decode_lenient(data[len(mark) :], name)
    declared = [name for name in _declared_encodings(data, content_type) if name is not None]
    if not any(name.startswith(_SEVEN_BIT) for name in declared[:1]):
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            pass
        else:
            if not data.isascii() or not declared or "\0" not in text:
                return DecodedPage(_remove_invalid_chars(text), "utf-8", 0)
    candidates = [*declared, *filter(None, [_detect_encoding(data)])]
    for name in candidates:
        try:
            return DecodedPage(_remove_invalid_chars(data.decode(name)), name, 0)
        except UnicodeError:
            if name == "utf-8" and _mostly_utf8(data):
                return _decode_lenient(data, name)
    return _decode_lenient(data, candidates[0] if candidates else "utf-8")


def _declared_encodings(data: bytes, content_type: str | None) -> list[str | None]:
    header = _HEADER_CHARSET.search(content_type or "")
    head = data[:_PRESCAN_BYTES]
    found = _META_CHARSET.search(head) or _XML_ENCODING.search(head)
    meta = codec_for(found.group(1).decode("ascii")) if found else None
    # A page that could be searched for its declaration is not in UTF-16 (WHATWG HTML, 13.2.3.2).
    if meta is not None and meta.startswith("utf-16"):
        meta = "utf-8"
    return [codec_for(header.group(1)) if header else None, meta]


def _detect_encoding(data: bytes) -> str | None:
    from resiliparse.parse.encoding import detect_encoding

    return codec_for(detect_encoding(data))


def _mostly_utf8(data: bytes) -> bool:
    """Whether more characters beyond ASCII are valid UTF-8 than not: a slip, no other encoding."""
    beyond = [char for char in data.decode("utf-8", "replace") if char > "\x7f"]
    return beyond.count(REPLACEMENT) <= len(beyond) / 2


def _decode_lenient(data: bytes, name: str) -> DecodedPage:
    before = data.count(REPLACEMENT.encode()) if name == "utf-8" else 0
    text = data.decode(name, "replace")
    return DecodedPage(_remove_invalid_chars(text), name, max(0, text.count(REPLACEMENT) - before))


def _remove_invalid_chars(text: str) -> str:
    """Without zero characters and without halves of surrogate pairs."""
    if "\0" in text:
        text = text.replace("\0", "")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = text.encode("utf-8", "replace").decode("utf-8")
    return text
