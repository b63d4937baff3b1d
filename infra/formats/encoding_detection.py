"""Guesses at the encoding of bytes that do not declare one.

chardet guesses; a guess counts if the text that it gives is in the letters of one language.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress

from infra.formats.alphabets import letter_fit
from infra.formats.encoding_labels import find_encoding
from infra.formats.web_encodings import (
    EUCJP_MS_ERRORS,
    REPLACEMENT,
    decode_as_browser,
)

# Encodings that plain-text files come in and that chardet may guess. Left out are those of
# mainframes and of single countries, for which it takes short texts in other ones.
TEXT_ENCODINGS = tuple(
    "cp1252 cp1250 cp1251 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 cp437 cp737 cp775 cp850 cp852"
    " cp855 cp857 cp858 cp860 cp861 cp862 cp863 cp865 cp866 cp869 cp874 cp1125 kz1048 iso8859-1 iso8859-2"
    " iso8859-3 iso8859-4 iso8859-5 iso8859-6 iso8859-7 iso8859-8 iso8859-9 iso8859-10 iso8859-13"
    " iso8859-14 iso8859-15 iso8859-16 koi8-r koi8-u mac-cyrillic mac-greek mac-iceland mac-latin2"
    " mac-roman mac-turkish tis-620 big5hkscs cp932 cp949 euc_jis_2004 euc_kr gb18030 johab"
    " shift_jis_2004 utf-16-be utf-16-le utf-32-be utf-32-le".split()
)
SEVEN_BIT_ENCODINGS = tuple(
    "ascii hz iso2022_jp_2 iso2022_jp_2004 iso2022_jp_ext iso2022_kr utf-7".split()
)
# Encodings that chardet does not know, or takes short texts in other ones for.
_RARE_ENCODINGS = ("mac-croatian", "mac-romanian", "koi8-t", "ptcp154")
# Windows' encodings that hold ISO's, by the codecs that chardet names.
SUPERSETS = {
    "euc_kr": "cp949", "iso8859-1": "cp1252", "iso8859-9": "cp1254", "iso8859-15": "cp1252",
    "shift_jis_2004": "cp932", "tis-620": "cp874",
}  # fmt: skip

# A guess is only accepted if this fraction of its letters fits one language. Of two guesses, the less
# probable one is only preferred if its letters fit better by more than this.
MIN_FIT, _FIT_TOLERANCE = 0.85, 0.0005
# A byte that an encoding does not have costs a page's letters no more of their fit.
_MAX_RULED_OUT_LOSS = 0.05
# With fewer bytes beyond ASCII, a text is in Windows-1252 if that fits.
_MIN_EVIDENCE = 4
# With a larger fraction of bytes beyond ASCII, a page is in another script.
_MAX_SPARSE_FRACTION = 0.25

# Bytes at the start of a file that are searched for zeros and for a declaration.
SAMPLE_BYTES = 1 << 16
# Bytes of a page whose letters are compared with those of languages, at most. A guess costs time in
# proportion to them, so it is made from fewer if that many of them are beyond ASCII.
FIT_BYTES, _MIN_SAMPLE_BYTES, _ENOUGH_EVIDENCE = 1 << 14, 1 << 11, 384
# Bytes before the first one beyond ASCII that are looked at, too.
_CONTEXT_BYTES = 64

NON_ASCII = re.compile(rb"[\x80-\xff]")
# What shifts between character sets in ISO 2022 and HZ.
_SHIFT = re.compile(rb"\x1b[$(.&N]|~\{[!-~]{2}")
UTF7_SHIFT = re.compile(rb"\+[A-Za-z0-9+/]{3,}-")
_TAGS = re.compile(
    rb"<(script|style)\b.*?(?:</\1|\Z)|<!--.*?(?:-->|\Z)|<[^>]*(?:>|\Z)|&#?\w+;",
    re.DOTALL | re.IGNORECASE,
)


def utf8_fraction(data: bytes) -> float:
    """The fraction of the characters beyond ASCII that are valid UTF-8."""
    return 1 - replaced_fraction(data.decode("utf-8", "replace"))


def replaced_fraction(text: str) -> float:
    """The fraction of the characters beyond ASCII that are U+FFFD."""
    num_non_ascii = len(text) - len(text.encode("ascii", "ignore"))
    return text.count(REPLACEMENT) / num_non_ascii if num_non_ascii else 0.0


def find_utf16(data: bytes) -> str | None:
    """UTF-16 without a byte order mark: zero bytes, nearly all of them at odd or at even offsets."""
    sample = data[:SAMPLE_BYTES]
    for start, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros, others = sample[start::2].count(0), sample[1 - start :: 2].count(0)
        if zeros > max(0.02 * len(sample), 20 * others, 1):
            return name
    return None


def find_shift(data: bytes) -> re.Match[bytes] | None:
    """The first shift to another character set in bytes of ASCII."""
    return _SHIFT.search(data) if b"\x1b" in data or b"~{" in data else None


def guess_encodings(data: bytes, encodings: tuple[str, ...]) -> list[str]:
    """Those of `encodings` that the bytes may be in, the most probable first; else its first one."""
    import chardet

    guesses = chardet.detect_all(
        data,
        max_bytes=len(data) + 1,
        compat_names=False,
        include_encodings=encodings,
        no_match_encoding=encodings[0],
        empty_input_encoding=encodings[0],
    )
    return [guess["encoding"] for guess in guesses if guess["encoding"]]


def detect_page(data: bytes) -> str | None:
    """The encoding that the text between the tags appears to be in."""
    text = b" ".join(_TAGS.sub(b" ", data[: 4 * SAMPLE_BYTES]).split())
    first = NON_ASCII.search(text)
    if first is None:
        return None
    start = max(first.start() - _CONTEXT_BYTES, 0)
    text = _cut_sample(text[start : start + FIT_BYTES])
    guesses = guess_encodings(text, TEXT_ENCODINGS)
    names = filter(None, map(find_encoding, guesses))
    best = _choose_best_fit(
        (name, decode_as_browser(text, name)) for name in (*names, *_RARE_ENCODINGS)
    )
    # Letters beyond a to z tell Latin alphabets apart, but not, for example, Greek from Hebrew.
    is_sparse = len(NON_ASCII.findall(text)) < _MAX_SPARSE_FRACTION * len(text)
    if best is None or not is_sparse or letter_fit(best[1]) < 1 - _FIT_TOLERANCE:
        ruled_out = find_encoding(_guess_from_quarters(text, guesses))
        best_fit = letter_fit(best[1]) if best else 0.0
        fit = letter_fit(decode_as_browser(text, ruled_out)) if ruled_out else 0.0
        if fit >= max(MIN_FIT, best_fit - _MAX_RULED_OUT_LOSS):
            return ruled_out
    if best and best[1] == decode_as_browser(text, "windows-1252"):
        return "windows-1252"  # rather than an ISO encoding that differs in other bytes
    return best[0] if best else None


def _cut_sample(text: bytes) -> bytes:
    """The beginning of a text up to the word in which there is evidence enough."""
    seen = NON_ASCII.finditer(text)
    enough = next(itertools.islice(seen, _ENOUGH_EVIDENCE - 1, None), None)
    end = max(enough.end(), _MIN_SAMPLE_BYTES) if enough else len(text)
    space = text.find(b" ", end, end + _CONTEXT_BYTES)
    return text[: space if space >= 0 else end]


def _guess_from_quarters(text: bytes, guesses: list[str]) -> str | None:
    """The encoding of most of a text, if it is not one of the guesses for the whole text.

    One byte that the right encoding does not have rules it out for the whole text, but not for
    three of its quarters.
    """
    cuts = [text.rfind(b" ", 0, len(text) * i // 4) + 1 for i in (1, 2, 3)]
    quarters = [text[start:end] for start, end in itertools.pairwise([0, *cuts, len(text)])]
    if any(len(NON_ASCII.findall(quarter)) < _MIN_EVIDENCE for quarter in quarters):
        return None
    votes: Counter[str] = Counter()
    for number, quarter in enumerate(quarters):
        names = guess_encodings(quarter, TEXT_ENCODINGS)[:2]
        votes.update(name for name in names if name not in guesses)
        if number == 1 and not votes:
            return None  # the other two are too few
    return next((name for name, count in votes.most_common(1) if count >= 3), None)


def detect_text(data: bytes) -> tuple[str, str] | None:
    """The text of a plain-text file and the name of its encoding; ``None`` if none fits."""
    names = guess_encodings(data, TEXT_ENCODINGS)
    if len(NON_ASCII.findall(data)) < _MIN_EVIDENCE:
        names.insert(0, "cp1252")
    best = _choose_best_fit(_decode_each(data, names))
    if best is None:
        return None
    name, text = best
    for superset in ("cp1252", SUPERSETS.get(name)):
        if superset and text == data.decode(superset, "replace"):
            return text, superset
    return text, name


def _decode_each(data: bytes, names: list[str]) -> Iterator[tuple[str, str]]:
    """The texts that encodings give, without those that do not fit.

    Where Windows and JIS X 0213 have other characters for the same bytes (U+9AD9, a family name's first),
    Windows' are tried first: nearly all files have them.
    """
    for name in (*names, *_RARE_ENCODINGS):
        if name == "euc_jis_2004":
            text = data.decode("euc_jp", EUCJP_MS_ERRORS)
            if REPLACEMENT not in text:
                yield "eucjp-ms", text
        with suppress(UnicodeDecodeError):
            if name == "shift_jis_2004":
                yield "cp932", data.decode("cp932")
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
    if best_fit < MIN_FIT:
        return None
    return next(
        (name, text) for text, (fit, name) in rated.items() if fit >= best_fit - _FIT_TOLERANCE
    )
