"""Which characters the bytes of a plain-text book stand for, decided from the bytes alone."""

import codecs
import re

SAMPLE_BYTES = 1 << 16
"""Bytes at the start of a file that are looked at for zeros and for a declared encoding."""

MAX_NON_ASCII_FRACTION = 0.25
"""With more non-ASCII bytes than this among the letters, cp1252 is no plausible reading: Western
text has below 10 %, while Cyrillic, Greek or Chinese in an 8-bit code has more than half."""

_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16: its mark begins with theirs
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARED = re.compile(rb"^Character set encoding:[ \t]*([\w.:-]+)", re.MULTILINE | re.IGNORECASE)
_CONTROL_BYTES = re.compile(rb"[\x00-\x08\x0e-\x19\x1b-\x1f]")
_CONTROL_CHARS = re.compile("[\x00-\x08\x0e-\x19\x1b-\x1f]")
_NON_ASCII = re.compile(rb"[\x80-\xff]")
_LETTER = re.compile(rb"[A-Za-z\x80-\xff]")
_UTF8_SEQUENCE = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)


class TextDecodeError(Exception):
    """Bytes that are no text in any encoding they can plausibly be in.

    Attributes:
        offset: the first byte that cannot be read, from 0.
    """

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset


def decode_text(data: bytes) -> tuple[str, str]:
    """Read bytes as text.

    In this order: a byte order mark; UTF-8; the encoding that a Project Gutenberg header declares;
    UTF-16 without a mark (every other byte of the start is mostly zero); cp1252, the superset of
    Latin-1 of older Western files, if nothing speaks against it.

    Returns:
        The text, without a byte order mark, and the name of the encoding.

    Raises:
        BadEncoding: if none fits.
    """
    for mark, name in _BOMS:
        if data.startswith(mark):
            try:
                return _decode_strict(data[len(mark) :], name, "after its byte order mark"), name
            except TextDecodeError as error:
                error.offset += len(mark)
                raise
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        first = error.start
    else:
        # ASCII text in UTF-16 is valid UTF-8, with a zero byte beside every letter.
        return (text, "utf-8") if "\0" not in text else _decode_utf16(data)
    declared = _declared_encoding(data)
    if declared:
        return _decode_strict(data, declared, "as its header declares"), declared
    if b"\0" in data:
        return _decode_utf16(data)
    return _decode_cp1252(data, first), "cp1252"


def _decode_strict(data: bytes, name: str, context: str) -> str:
    try:
        return data.decode(name)
    except UnicodeDecodeError as error:
        raise TextDecodeError(error.start, f"not {name} {context}: {error.reason}") from None


def _declared_encoding(data: bytes) -> str | None:
    """The encoding a Gutenberg header names, if it is one that can differ from UTF-8 and ASCII."""
    found = _DECLARED.search(data[:SAMPLE_BYTES])
    if not found:
        return None
    try:
        name = codecs.lookup(found[1].decode("ascii", "replace")).name
    except LookupError:
        return None  # "Unicode", "ISO Latin-1" and the like: no name of a codec
    return {"iso8859-1": "cp1252"}.get(name, name) if name not in ("utf-8", "ascii") else None


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
    high = len(_NON_ASCII.findall(data))
    # A pair such as "Ã©" is so rare in Western text that a file full of them is broken UTF-8.
    sequences = sum(len(item) for item in _UTF8_SEQUENCE.findall(data))
    if sequences > high / 2:
        raise TextDecodeError(
            first_invalid, "not UTF-8, though most of its non-ASCII characters are"
        )
    if high > MAX_NON_ASCII_FRACTION * len(_LETTER.findall(data)):
        raise TextDecodeError(
            first_invalid, "not UTF-8, and not in a Western 8-bit encoding; convert it"
        )
    return _decode_strict(data, "cp1252", "and not UTF-8")
