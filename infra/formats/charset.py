"""Character encodings: from the bytes of web pages and of plain-text files to text.

`decode_page` never fails: browsers show every page, so invalid bytes are replaced and counted.
`decode_text` fails instead: a book that is not text, or is in an encoding that cannot be determined,
must not enter a corpus as replacement characters.
"""

import codecs
import re
from dataclasses import dataclass

REPLACEMENT = "\ufffd"

_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is the beginning of this one
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Labels that mean Windows-1252 and so on in practice (WHATWG Encoding, section 4.2): pages that
# declare Latin-1 use the characters that Windows added to it.
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
# Encodings whose text consists of ASCII bytes: valid UTF-8 proves nothing about it.
_SEVEN_BIT = ("iso2022", "hz", "utf-7")

_HEADER_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]+)", re.I)
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]+)", re.I)
_XML_ENCODING = re.compile(rb"^\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9_.:-]+)", re.I)
_PRESCAN_BYTES = 4096  # browsers search 1024, and many pages declare theirs a little later

# Bytes at the start of a plain-text file that are searched for zeros and for a declaration.
SAMPLE_BYTES = 1 << 16
# With a larger fraction of non-ASCII bytes among the letters, cp1252 is not a plausible encoding:
# Western text has less than 10 %, Cyrillic, Greek or Chinese in an 8-bit code more than half.
MAX_NON_ASCII_FRACTION = 0.25

_GUTENBERG_CHARSET = re.compile(
    rb"^Character set encoding:[ \t]*([\w.:-]+)", re.MULTILINE | re.IGNORECASE
)
_CONTROL_BYTES = re.compile(rb"[\x00-\x08\x0e-\x19\x1b-\x1f]")
_CONTROL_CHARS = re.compile("[\x00-\x08\x0e-\x19\x1b-\x1f]")
_NON_ASCII = re.compile(rb"[\x80-\xff]")
_LETTER = re.compile(rb"[A-Za-z\x80-\xff]")
_UTF8_SEQUENCE = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)


def codec_for(label: str | None) -> str | None:
    """Python's name of the codec that browsers use for an encoding label; ``None`` if unknown."""
    if not label:
        return None
    try:
        name = codecs.lookup(label.strip()).name
        "".encode(name)
    except (LookupError, ValueError):
        return None
    return _WHATWG_CODECS.get(name, name)


def _split_bom(data: bytes) -> tuple[str | None, int]:
    """The encoding that a byte order mark names, and the bytes of the mark."""
    for mark, name in _BOMS:
        if data.startswith(mark):
            return name, len(mark)
    return None, 0


@dataclass(frozen=True)
class DecodedPage:
    """A page as text.

    Attributes:
        text: valid Unicode without zero characters.
        encoding: Python's name of the encoding that it was decoded with.
        num_replaced: invalid bytes, or runs of them, that became U+FFFD.
    """

    text: str
    encoding: str
    num_replaced: int


def decode_page(data: bytes, content_type: str | None) -> DecodedPage:
    """Decode a page.

    The encoding is the first of these that decodes the page without an error: a byte order mark;
    UTF-8, if there are bytes beyond ASCII, whatever is declared, because other text is almost never
    valid UTF-8 by accident; the charset of the Content-Type header; that of a meta tag or XML
    declaration; detection from the bytes. UTF-8 with errors counts, too, where it is declared and
    most characters beyond ASCII are valid. If none fits, the first one declared is used. Invalid
    bytes are replaced and counted.

    Args:
        data: the page.
        content_type: its Content-Type header.
    """
    marked, size = _split_bom(data)
    if marked is not None:
        return _decode_lenient(data[size:], marked)
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
            if name == "utf-8" and _is_mostly_utf8(data):
                return _decode_lenient(data, name)
    return _decode_lenient(data, candidates[0] if candidates else "utf-8")


def _declared_encodings(data: bytes, content_type: str | None) -> list[str | None]:
    header = _HEADER_CHARSET.search(content_type or "")
    head = data[:_PRESCAN_BYTES]
    match = _META_CHARSET.search(head) or _XML_ENCODING.search(head)
    meta = codec_for(match.group(1).decode("ascii")) if match else None
    # A page whose declaration can be searched for is not in UTF-16 (WHATWG HTML, 13.2.3.2).
    if meta is not None and meta.startswith("utf-16"):
        meta = "utf-8"
    return [codec_for(header.group(1)) if header else None, meta]


def _detect_encoding(data: bytes) -> str | None:
    from resiliparse.parse.encoding import detect_encoding

    return codec_for(detect_encoding(data))


def _is_mostly_utf8(data: bytes) -> bool:
    """Whether at least half of the characters beyond ASCII are valid UTF-8."""
    non_ascii = [char for char in data.decode("utf-8", "replace") if char > "\x7f"]
    return non_ascii.count(REPLACEMENT) <= len(non_ascii) / 2


def _decode_lenient(data: bytes, name: str) -> DecodedPage:
    in_source = data.count(REPLACEMENT.encode()) if name == "utf-8" else 0
    text = data.decode(name, "replace")
    num_replaced = max(0, text.count(REPLACEMENT) - in_source)
    return DecodedPage(_remove_invalid_chars(text), name, num_replaced)


def _remove_invalid_chars(text: str) -> str:
    """Remove zero characters; replace unpaired surrogates."""
    if "\0" in text:
        text = text.replace("\0", "")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = text.encode("utf-8", "replace").decode("utf-8")
    return text


class TextDecodeError(Exception):
    """Bytes that are not text in any plausible encoding.

    Attributes:
        offset: the first byte that cannot be decoded, from 0.
    """

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset


def decode_text(data: bytes) -> tuple[str, str]:
    """Decode a plain-text file.

    The encoding is the first that applies: a byte order mark; UTF-8; the encoding that a Project
    Gutenberg header declares; UTF-16 without a mark (every other byte of the start is mostly zero);
    cp1252, the superset of Latin-1 that older Western files are in, if it is plausible.

    Returns:
        The text without a byte order mark, and the name of the encoding.

    Raises:
        TextDecodeError: if none fits.
    """
    marked, size = _split_bom(data)
    if marked is not None:
        try:
            return _decode_strict(data[size:], marked, "after its byte order mark"), marked
        except TextDecodeError as error:
            error.offset += size
            raise
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        first_invalid = error.start
    else:
        # ASCII text in UTF-16 is valid UTF-8, with a zero byte beside every letter.
        return (text, "utf-8") if "\0" not in text else _decode_utf16(data)
    declared = _gutenberg_encoding(data)
    if declared:
        return _decode_strict(data, declared, "as its header declares"), declared
    if b"\0" in data:
        return _decode_utf16(data)
    return _decode_cp1252(data, first_invalid), "cp1252"


def _decode_strict(data: bytes, name: str, context: str) -> str:
    try:
        return data.decode(name)
    except UnicodeDecodeError as error:
        raise TextDecodeError(error.start, f"not {name} {context}: {error.reason}") from None


def _gutenberg_encoding(data: bytes) -> str | None:
    """The codec that a Gutenberg header names; ``None`` for UTF-8, ASCII and unknown labels."""
    match = _GUTENBERG_CHARSET.search(data[:SAMPLE_BYTES])
    if match is None:
        return None
    label = match[1].decode("ascii", "replace")
    try:
        is_unicode_or_ascii = codecs.lookup(label).name in ("utf-8", "ascii")
    except LookupError:
        return None  # "Unicode", "ISO Latin-1" and the like name no codec
    return None if is_unicode_or_ascii else codec_for(label)


def _decode_utf16(data: bytes) -> tuple[str, str]:
    sample = data[:SAMPLE_BYTES]
    half = max(len(sample) // 2, 1)
    for start, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        if sample[start::2].count(0) > 0.4 * half > sample[1 - start :: 2].count(0):
            text = _decode_strict(data, name, "though every other byte is zero")
            if not _CONTROL_CHARS.search(text):
                return text, name
    raise TextDecodeError(data.index(0), "not text: a zero byte")


def _decode_cp1252(data: bytes, first_invalid: int) -> str:
    control = _CONTROL_BYTES.search(data)
    if control:
        raise TextDecodeError(control.start(), "not UTF-8, and not text: a control byte")
    num_non_ascii = len(_NON_ASCII.findall(data))
    # A pair such as "Ã©" is so rare in Western text that a file full of them is broken UTF-8.
    bytes_in_sequences = sum(len(item) for item in _UTF8_SEQUENCE.findall(data))
    if bytes_in_sequences > num_non_ascii / 2:
        raise TextDecodeError(
            first_invalid, "not UTF-8, though most of its non-ASCII characters are"
        )
    if num_non_ascii > MAX_NON_ASCII_FRACTION * len(_LETTER.findall(data)):
        raise TextDecodeError(
            first_invalid, "not UTF-8, and not in a Western 8-bit encoding; convert it"
        )
    return _decode_strict(data, "cp1252", "and not UTF-8")
