"""Character encodings: from the bytes of web pages and of plain-text files to text.

`decode_page` never fails: browsers show every page, so invalid bytes are replaced and counted.
`decode_text` fails instead: a book that is not text, or is in an encoding that cannot be determined,
must not enter a corpus as replacement characters or as other letters than were written.
"""

import codecs
import re
from dataclasses import dataclass

from infra.formats.alphabets import letter_fit
from infra.formats.encoding_detection import (
    FIT_BYTES,
    MIN_FIT,
    NON_ASCII,
    SAMPLE_BYTES,
    SEVEN_BIT_ENCODINGS,
    SUPERSETS,
    TEXT_ENCODINGS,
    UTF7_SHIFT,
    detect_page,
    detect_text,
    find_shift,
    find_utf16,
    guess_encodings,
    replaced_fraction,
    utf8_fraction,
)
from infra.formats.web_encodings import (
    MULTI_BYTE,
    REPLACEMENT,
    SEVEN_BIT,
    decode_as_browser,
    find_declarations,
)

_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is the beginning of this one
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

# A declared Windows-1252 (in HTTP often only a server's default) is doubted below this.
_MIN_DECLARED_FIT = 0.7

_GUTENBERG_CHARSET = re.compile(
    rb"^Character set encoding:[ \t]*([\w.:-]+)", re.MULTILINE | re.IGNORECASE
)
_CONTROL_BYTES = re.compile(rb"[\x00-\x08\x0e-\x19\x1b-\x1f]")
_CONTROL_CHARS = re.compile("[\x00-\x08\x0e-\x19\x1b-\x1f]")


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
        encoding: the encoding that it was decoded with, by its name in the WHATWG standard.
        num_replaced: invalid bytes, or runs of them, that became U+FFFD.
    """

    text: str
    encoding: str
    num_replaced: int


def decode_page(data: bytes, content_type: str | None) -> DecodedPage:
    """Decode a page as browsers do, but for wrong declarations.

    The encoding is the first of these: a byte order mark; UTF-8, if there are bytes beyond ASCII and
    most are valid UTF-8, whatever is declared, because other text is almost never valid UTF-8
    by accident; the charset of the Content-Type header; that of a meta tag or XML declaration;
    detection from the bytes. A declaration that the bytes contradict is passed over: UTF-8 where
    most is not, Windows-1252 whose letters fit no language. Invalid bytes are replaced and counted.

    Args:
        data: the page.
        content_type: its Content-Type header.
    """
    marked, size = _split_bom(data)
    if marked is not None:
        return _decode_lenient(data[size:], marked)
    if b"\0" not in data and not (data.isascii() and find_shift(data)):
        try:
            return DecodedPage(_remove_invalid_chars(data.decode("utf-8")), "utf-8", 0)
        except UnicodeDecodeError:
            pass
    return _decode_lenient(data, _choose_page_encoding(data, content_type))


def _choose_page_encoding(data: bytes, content_type: str | None) -> str:
    """The encoding of a page that is not valid UTF-8, or whose ASCII bytes may mean something else."""
    declared = find_declarations(data, content_type)
    if data.isascii():
        if b"\0" in data:
            return find_utf16(data) or declared.header or "utf-8"
        for name in (declared.header, declared.page):
            if name in SEVEN_BIT:
                return name
        if b"\x1b$)C" in data:
            return "iso2022_kr"
        return "iso-2022-jp" if b"\x1b$B" in data or b"\x1b$@" in data else "utf-8"
    if utf8_fraction(data) >= 0.5:
        return "utf-8"
    candidates = list(dict.fromkeys(filter(None, (declared.header, declared.page))))
    candidates = [name for name in candidates if not _contradicts(data, name)]
    if len(candidates) > 1:
        detected = detect_page(data)
        if detected == "gb18030" and "gbk" in candidates:
            return "gbk"
        if detected in candidates:
            return detected
        return max(candidates, key=lambda name: _fit(data, name))  # of equal ones, the first
    is_certain = bool(candidates) and (
        candidates[0] != "windows-1252" or _fit(data, "windows-1252") >= _MIN_DECLARED_FIT
    )
    if is_certain:
        return candidates[0]
    detected = find_utf16(data) or detect_page(data)
    if detected:
        return detected
    if candidates or _fit(data, "windows-1252") >= MIN_FIT:
        return "windows-1252"
    return declared.header or declared.page or "windows-1252"


def _contradicts(data: bytes, name: str) -> bool:
    if name == "utf-8":
        return True  # most of it is not
    if name.startswith("utf-16"):
        return data[:SAMPLE_BYTES].count(0) == 0 and len(data) % 2 == 1
    if name in SEVEN_BIT:
        return True  # it has bytes beyond ASCII
    if name in MULTI_BYTE:
        return replaced_fraction(decode_as_browser(data[:SAMPLE_BYTES], name)) > 0.2
    return False


def _fit(data: bytes, name: str) -> float:
    """How well a page's letters fit one language; seen from its first byte beyond ASCII."""
    first = NON_ASCII.search(data)
    start = max(first.start() - 64, 0) if first else 0
    return letter_fit(decode_as_browser(data[start : start + FIT_BYTES], name))


def _decode_lenient(data: bytes, name: str) -> DecodedPage:
    in_source = data.count(REPLACEMENT.encode()) if name == "utf-8" else 0
    text = decode_as_browser(data, name)
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
    Gutenberg header declares; what chardet detects, if the letters fit one language.

    Returns:
        The text without byte order marks, its own or those of files that were appended to it, and
        the name of the encoding.

    Raises:
        TextDecodeError: if none fits.
    """
    text, encoding = _decode_marked_text(data)
    return text.replace("\ufeff", ""), encoding


def _decode_marked_text(data: bytes) -> tuple[str, str]:
    marked, size = _split_bom(data)
    if marked is not None:
        try:
            return _decode_strict(data[size:], marked, "after its byte order mark"), marked
        except TextDecodeError as error:
            error.offset += size
            raise
    first_invalid = 0
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        first_invalid = error.start
    else:
        # ASCII text in UTF-16 is valid UTF-8, with a zero byte beside every letter.
        if "\0" not in text:
            return _decode_seven_bit(data) or (text, "utf-8")
    if b"\0" in data:
        return _decode_utf16(data)
    declared = _gutenberg_encoding(data)
    if declared:
        try:
            text = data.decode(declared)
        except UnicodeDecodeError:
            pass
        else:
            if letter_fit(text) >= MIN_FIT:
                return text, declared
    return _decode_detected(data, first_invalid)


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
        name = codecs.lookup(label).name
    except LookupError:
        return None  # "Unicode", "ISO Latin-1" and the like name no codec
    return None if name in ("utf-8", "ascii") else SUPERSETS.get(name, name)


def _decode_utf16(data: bytes) -> tuple[str, str]:
    """Text with zero bytes, which only UTF-16 and UTF-32 have."""
    name = find_utf16(data) or next(
        (name for name in guess_encodings(data, TEXT_ENCODINGS) if name.startswith("utf-")), None
    )
    if name:
        text = _decode_strict(data, name, "though many of its bytes are zero")
        if not _CONTROL_CHARS.search(text):
            return text, name
    raise TextDecodeError(data.index(0), "not text: a zero byte")


def _decode_seven_bit(data: bytes) -> tuple[str, str] | None:
    """ASCII bytes with shifts to another character set; ``None`` if there are none.

    Raises:
        TextDecodeError: if there are, but of an unknown set, such as those of ISO-2022-CN.
    """
    shift = (find_shift(data) or UTF7_SHIFT.search(data)) if data.isascii() else None
    if shift is None:
        return None
    for name in guess_encodings(data, SEVEN_BIT_ENCODINGS):
        try:
            text = data.decode(name)
        except (UnicodeDecodeError, LookupError):
            continue
        if name != "ascii" and "\x1b" not in text:
            return text, name
    if b"\x1b$" in data:  # with the characters of NEC and IBM, which Python's codecs lack
        text = decode_as_browser(data, "iso-2022-jp")
        if REPLACEMENT not in text:
            return text, "iso-2022-jp"
    if data[shift.start() : shift.start() + 2] in (b"\x1b$", b"\x1b("):
        raise TextDecodeError(shift.start(), "not text: an escape sequence")
    return None


def _decode_detected(data: bytes, first_invalid: int) -> tuple[str, str]:
    control = _CONTROL_BYTES.search(data)
    if control:
        raise TextDecodeError(control.start(), "not UTF-8, and not text: a control byte")
    if utf8_fraction(data) >= 0.5:
        raise TextDecodeError(
            first_invalid, "not UTF-8, though most of its non-ASCII characters are"
        )
    detected = detect_text(data)
    if detected is None:
        raise TextDecodeError(
            first_invalid, "not UTF-8, and in no encoding that gives the letters of one language"
        )
    return detected
