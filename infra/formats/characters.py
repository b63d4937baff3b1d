"""Characters that carry no text: those that markup may not hold, and those that show nothing."""

import re
import unicodedata

# XML 1.0, 2.2: these are no characters of a document.
_INVALID = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]+")
_REFERENCE = re.compile(r"&#(?:x([0-9a-f]{1,6})|([0-9]{1,7}));?", re.IGNORECASE)
# Letters and marks that show nothing although Unicode counts them as visible: Hangul fillers,
# inherent vowels of Khmer, the braille blank.
_BLANK = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def remove_control_characters(text: str) -> str:
    """The text without control characters, non-characters and surrogates; VT and FF are spaces."""
    return _INVALID.sub("", text.replace("\v", " ").replace("\f", " "))


def clean_markup(markup: str) -> str:
    """HTML without characters that XML does not allow, written as they are or as references.

    Parsers let them through, and extractors then refuse the whole text.
    """
    return _REFERENCE.sub(_clean_reference, remove_control_characters(markup))


def _clean_reference(match: re.Match[str]) -> str:
    code = int(match[1], 16) if match[1] else int(match[2])
    if code in (0x0B, 0x0C):
        return " "
    # HTML reads 128 to 159 as Windows-1252, and zero as U+FFFD: the parser does.
    return "" if 0 < code <= 0x10FFFF and _INVALID.match(chr(code)) else match[0]


def is_blank(text: str) -> bool:
    """Whether no character of a text is visible: spaces, controls, formats (zero-width ones), marks."""
    return all(char in _BLANK or unicodedata.category(char)[0] in "CZM" for char in text)
