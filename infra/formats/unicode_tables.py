"""Unicode properties as flat tables that a compiled kernel can index by code point.

The tables follow the Unicode version of the running Python (``UNICODE_VERSION``), which therefore belongs
to the code version of every stage that uses them.
"""

import sys
import unicodedata
from functools import cache

import numpy as np
import numpy.typing as npt

from infra.compute.jit import jit

UNICODE_VERSION = unicodedata.unidata_version
NUM_CODE_POINTS = sys.maxunicode + 1

SPACE, WORD, UPPER, PUNCT, DIGIT, ALPHA, LINE_BREAK, CJK = 1, 2, 4, 8, 16, 32, 64, 128

# Scripts written without spaces between words, where one character stands for a word:
# Han with its extensions, Hiragana and Katakana (Unicode blocks).
CJK_RANGES = (
    (0x3040, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9D),
    (0x20000, 0x323AF),
)
# Planes 4 to 13 are unassigned in every version of Unicode so far.
EMPTY_PLANES = range(0x40000, 0xE0000)
SURROGATES = range(0xD800, 0xE000)
ASSIGNED_END = 0xE01F0  # private use and nothing else from here on
LINE_BREAKS = (0x0A, 0x0B, 0x0C, 0x0D, 0x1C, 0x1D, 0x1E, 0x85, 0x2028, 0x2029)  # str.splitlines


def _char_flags(point: int) -> int:
    char = chr(point)
    category = unicodedata.category(char)
    flags = 0
    if char.isspace():
        flags |= SPACE
    if char.isalnum() or category[0] == "M" or char == "_":
        flags |= WORD
    if category == "Lu":
        flags |= UPPER
    if category[0] in "PS":
        flags |= PUNCT
    if category == "Nd":
        flags |= DIGIT
    if char.isalpha():
        flags |= ALPHA
    return flags


@cache
def char_tables() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """``(classes, lower)``: uint8[0x110000] bit flags and int32[0x110000] simple lower case.

    ``lower`` maps a code point to one code point; the few letters whose lower case has several
    (such as U+0130) map to its first.
    """
    classes = np.zeros(NUM_CODE_POINTS, np.uint8)
    lower = np.arange(NUM_CODE_POINTS, dtype=np.int32)
    for point in (
        *range(SURROGATES.start),
        *range(SURROGATES.stop, EMPTY_PLANES.start),
        *range(EMPTY_PLANES.stop, ASSIGNED_END),
    ):
        classes[point] = _char_flags(point)
        lower[point] = ord(chr(point).lower()[0])
    for start, end in CJK_RANGES:
        classes[start : end + 1] |= CJK
    classes[list(LINE_BREAKS)] |= LINE_BREAK
    classes.setflags(write=False)
    lower.setflags(write=False)
    return classes, lower


@jit
def decode_utf8(data: npt.NDArray[np.uint8], i: int) -> tuple[int, int]:
    """The code point that starts at byte ``i`` of valid UTF-8, and where the next one starts."""
    first = int(data[i])
    if first < 0x80:
        return first, i + 1
    second = int(data[i + 1]) & 0x3F
    if first < 0xE0:
        return ((first & 0x1F) << 6) | second, i + 2
    third = int(data[i + 2]) & 0x3F
    if first < 0xF0:
        return ((first & 0x0F) << 12) | (second << 6) | third, i + 3
    high = ((first & 0x07) << 18) | (second << 12) | (third << 6)
    return high | (int(data[i + 3]) & 0x3F), i + 4
