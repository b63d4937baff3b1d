"""Character encodings: from the bytes of web pages and of plain-text files to text.

`decode_page` never fails: browsers show every page, so invalid bytes are replaced and counted.
`decode_text` fails instead: a book that is not text, or is in an encoding that cannot be determined,
must not enter a corpus as replacement characters or as other letters than were written.
"""

import codecs
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from infra.formats.alphabets import letter_fit
from infra.formats.web_encodings import (
    MULTI_BYTE,
    REPLACEMENT,
    SEVEN_BIT,
    decode_as_browser,
    find_declarations,
    find_encoding,
)

_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark is the beginning of this one
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

# Encodings that plain-text files come in and that chardet may guess. Left out are those of
# mainframes and of single countries, for which it takes short texts in other ones.
_TEXT_ENCODINGS = tuple(
    "cp1252 cp1250 cp1251 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 cp437 cp737 cp775 cp850 cp852"
    " cp855 cp857 cp858 cp860 cp861 cp862 cp863 cp865 cp866 cp869 cp874 cp1125 kz1048 iso8859-1 iso8859-2"
    " iso8859-3 iso8859-4 iso8859-5 iso8859-6 iso8859-7 iso8859-8 iso8859-9 iso8859-10 iso8859-13"
    " iso8859-14 iso8859-15 iso8859-16 koi8-r koi8-u mac-cyrillic mac-greek mac-iceland mac-latin2"
    " mac-roman mac-turkish tis-620 big5hkscs cp932 cp949 euc_jis_2004 euc_kr gb18030 johab"
    " shift_jis_2004 utf-16-be utf-16-le utf-32-be utf-32-le".split()
)
_SEVEN_BIT_ENCODINGS = tuple(
    "ascii hz iso2022_jp_2 iso2022_jp_2004 iso2022_jp_ext iso2022_kr utf-7".split()
)
# Encodings that chardet does not know.
_RARE_ENCODINGS = ("mac-croatian", "mac-romanian")
# Windows' encodings that hold ISO's, by the codecs that chardet names.
_SUPERSETS = {
    "euc_kr": "cp949", "iso8859-1": "cp1252", "iso8859-9": "cp1254", "iso8859-15": "cp1252",
    "shift_jis_2004": "cp932", "tis-620": "cp874",
}  # fmt: skip

# A guess is only accepted if this fraction of its letters fits one language. Of two guesses, the less
# probable one is only preferred if its letters fit better by more than this.
_MIN_FIT, _FIT_TOLERANCE = 0.85, 0.0005
# With fewer bytes beyond ASCII, a text is in Windows-1252 if that fits.
_MIN_EVIDENCE = 4
# With a larger fraction of bytes beyond ASCII, a page is in another script.
_MAX_SPARSE_FRACTION = 0.25
# A declared Windows-1252 (in HTTP often only a server's default) is doubted below this.
_MIN_DECLARED_FIT = 0.7

# Bytes at the start of a file that are searched for zeros and for a declaration.
SAMPLE_BYTES = 1 << 16
# Bytes of a page whose letters are compared with those of languages.
_FIT_BYTES = 1 << 14

_GUTENBERG_CHARSET = re.compile(
    rb"^Character set encoding:[ \t]*([\w.:-]+)", re.MULTILINE | re.IGNORECASE
)
_CONTROL_BYTES = re.compile(rb"[\x00-\x08\x0e-\x19\x1b-\x1f]")
_CONTROL_CHARS = re.compile("[\x00-\x08\x0e-\x19\x1b-\x1f]")
_NON_ASCII = re.compile(rb"[\x80-\xff]")
# What shifts between character sets in ISO 2022 and HZ.
_SHIFT = re.compile(rb"\x1b[$(.&N]|~\{[!-~]{2}")
_UTF7_SHIFT = re.compile(rb"\+[A-Za-z0-9+/]{3,}-")
_TAGS = re.compile(
    rb"<(script|style)\b.*?</\1|<!--.*?-->|<[^>]*>|&#?\w+;", re.DOTALL | re.IGNORECASE
)


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
    if b"\0" not in data and not (data.isascii() and _find_shift(data)):
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
    if _utf8_fraction(data) >= 0.5:
        return "utf-8"
    candidates = list(dict.fromkeys(filter(None, (declared.header, declared.page))))
    candidates = [name for name in candidates if not _contradicts(data, name)]
    if len(candidates) > 1:
        detected = _detect_page(data)
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
    detected = find_utf16(data) or _detect_page(data)
    if detected:
        return detected
    if candidates or _fit(data, "windows-1252") >= _MIN_FIT:
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
        return _replaced_fraction(decode_as_browser(data[:SAMPLE_BYTES], name)) > 0.2
    return False


def _utf8_fraction(data: bytes) -> float:
    """The fraction of the characters beyond ASCII that are valid UTF-8."""
    return 1 - _replaced_fraction(data[:SAMPLE_BYTES].decode("utf-8", "replace"))


def _replaced_fraction(text: str) -> float:
    """The fraction of the characters beyond ASCII that are U+FFFD."""
    num_non_ascii = len(text) - len(text.encode("ascii", "ignore"))
    return text.count(REPLACEMENT) / num_non_ascii if num_non_ascii else 0.0


def _fit(data: bytes, name: str) -> float:
    """How well a page's letters fit one language; seen from its first byte beyond ASCII."""
    first = _NON_ASCII.search(data)
    start = max(first.start() - 64, 0) if first else 0
    return letter_fit(decode_as_browser(data[start : start + _FIT_BYTES], name))


def _find_shift(data: bytes) -> re.Match[bytes] | None:
    """The first shift to another character set in bytes of ASCII."""
    return _SHIFT.search(data) if b"\x1b" in data or b"~{" in data else None


def _detect_page(data: bytes) -> str | None:
    """The encoding that the text between the tags appears to be in."""
    text = b" ".join(_TAGS.sub(b" ", data[: 4 * SAMPLE_BYTES]).split())[:_FIT_BYTES]
    guesses = _guess_encodings(text, _TEXT_ENCODINGS)
    names = filter(None, map(find_encoding, guesses))
    best = _choose_best_fit((name, decode_as_browser(text, name)) for name in names)
    # Letters beyond a to z tell Latin alphabets apart, but not, for example, Greek from Hebrew.
    is_sparse = len(_NON_ASCII.findall(text)) < _MAX_SPARSE_FRACTION * len(text)
    if best is None or not is_sparse or letter_fit(best[1]) < 1 - _FIT_TOLERANCE:
        ruled_out = find_encoding(_guess_from_quarters(text, guesses))
        if ruled_out and letter_fit(decode_as_browser(text, ruled_out)) >= _MIN_FIT:
            return ruled_out
    if best and best[1] == decode_as_browser(text, "windows-1252"):
        return "windows-1252"  # rather than an ISO encoding that differs in other bytes
    return best[0] if best else None


def _guess_from_quarters(text: bytes, guesses: list[str]) -> str | None:
    """The encoding of most of a text, if it is not one of the guesses for the whole text.

    One byte that the right encoding does not have rules it out for the whole text, but not for
    three of its quarters.
    """
    cuts = [text.rfind(b" ", 0, len(text) * i // 4) + 1 for i in (1, 2, 3)]
    quarters = [text[start:end] for start, end in itertools.pairwise([0, *cuts, len(text)])]
    if any(len(_NON_ASCII.findall(quarter)) < _MIN_EVIDENCE for quarter in quarters):
        return None
    votes = Counter(
        name
        for quarter in quarters
        for name in _guess_encodings(quarter, _TEXT_ENCODINGS)[:2]
        if name not in guesses
    )
    return next((name for name, count in votes.most_common(1) if count >= 3), None)


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
            if letter_fit(text) >= _MIN_FIT:
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
    return None if name in ("utf-8", "ascii") else _SUPERSETS.get(name, name)


def find_utf16(data: bytes) -> str | None:
    """UTF-16 without a byte order mark: zero bytes, nearly all of them at odd or at even offsets."""
    sample = data[:SAMPLE_BYTES]
    for start, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros, others = sample[start::2].count(0), sample[1 - start :: 2].count(0)
        if zeros > max(0.02 * len(sample), 20 * others, 1):
            return name
    return None


def _decode_utf16(data: bytes) -> tuple[str, str]:
    """Text with zero bytes, which only UTF-16 and UTF-32 have."""
    name = find_utf16(data) or next(
        (name for name in _guess_encodings(data, _TEXT_ENCODINGS) if name.startswith("utf-")), None
    )
    if name:
        text = _decode_strict(data, name, "though many of its bytes are zero")
        if not _CONTROL_CHARS.search(text):
            return text, name
    raise TextDecodeError(data.index(0), "not text: a zero byte")


def _guess_encodings(data: bytes, encodings: tuple[str, ...]) -> list[str]:
    """Those of `encodings` that the bytes may be in, the most probable first; else its first one."""
    import chardet

    guesses = chardet.detect_all(
        data,
        max_bytes=len(data) + 1,
        compat_names=False,
        include_encodings=encodings,
        no_match_encoding=encodings[0],
    )
    return [guess["encoding"] for guess in guesses if guess["encoding"]]


def _decode_seven_bit(data: bytes) -> tuple[str, str] | None:
    """ASCII bytes with shifts to another character set; ``None`` if there are none.

    Raises:
        TextDecodeError: if there are, but of an unknown set, such as those of ISO-2022-CN.
    """
    shift = (_find_shift(data) or _UTF7_SHIFT.search(data)) if data.isascii() else None
    if shift is None:
        return None
    for name in _guess_encodings(data, _SEVEN_BIT_ENCODINGS):
        try:
            text = data.decode(name)
        except (UnicodeDecodeError, LookupError):
            continue
        if name != "ascii" and "\x1b" not in text:
            return text, name
    if data[shift.start() : shift.start() + 2] in (b"\x1b$", b"\x1b("):
        raise TextDecodeError(shift.start(), "not text: an escape sequence")
    return None


def _decode_detected(data: bytes, first_invalid: int) -> tuple[str, str]:
    control = _CONTROL_BYTES.search(data)
    if control:
        raise TextDecodeError(control.start(), "not UTF-8, and not text: a control byte")
    if _utf8_fraction(data) >= 0.5:
        raise TextDecodeError(
            first_invalid, "not UTF-8, though most of its non-ASCII characters are"
        )
    names = _guess_encodings(data, _TEXT_ENCODINGS)
    if len(_NON_ASCII.findall(data)) < _MIN_EVIDENCE:
        names.insert(0, "cp1252")
    best = _choose_best_fit(_decode_each(data, names))
    if best is None:
        raise TextDecodeError(
            first_invalid, "not UTF-8, and in no encoding that gives the letters of one language"
        )
    name, text = best
    for superset in ("cp1252", _SUPERSETS.get(name)):
        if superset and text == data.decode(superset, "replace"):
            return text, superset
    return text, name


def _decode_each(data: bytes, names: list[str]) -> Iterator[tuple[str, str]]:
    for name in (*names, *_RARE_ENCODINGS):
        with suppress(UnicodeDecodeError):
            yield name, data.decode(name)


def _choose_best_fit(guesses: Iterable[tuple[str, str]]) -> tuple[str, str] | None:
    """Of encodings and the texts that they give, the one whose letters fit one language best.

    ``None`` if none fits. Where several fit equally, it is the first.
    """
    rated: dict[str, tuple[float, str]] = {}
    for name, text in guesses:
        if text in rated:
            continue
        fit = letter_fit(text)
        if fit >= 1 - _FIT_TOLERANCE:
            return name, text
        rated[text] = fit, name
    best_fit = max((fit for fit, _ in rated.values()), default=0.0)
    if best_fit < _MIN_FIT:
        return None
    return next(
        (name, text) for text, (fit, name) in rated.items() if fit >= best_fit - _FIT_TOLERANCE
    )
