"""Characters as the detectors see them: digits, Latin letters and separators of any form as ASCII.

Text hides a number from patterns written for ASCII by no-break spaces, en dashes, full-width or
Arabic digits, and invisible characters. All of these are folded before anything is matched, and the
spans are mapped back.
"""

import unicodedata
from collections.abc import Sequence
from functools import cache

import numpy as np
import regex

from infra.compute.arrays import U8
from infra.formats.unicode_tables import CJK, NUM_CODE_POINTS, SURROGATES, WORD, char_tables

# Values of the table that are not ASCII: no character at all; a letter, mark or digit of another
# script; the same of a script written without spaces; anything else.
IGNORED, LETTER, UNSPACED, OTHER = 0x80, 0x81, 0x82, 0x83

# Besides Han and kana: Thai, Lao, Burmese and Khmer.
UNSPACED_RANGES = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF))
# Characters that stand for an ASCII one besides those that Unicode's properties name.
_LOOKALIKES = {
    # Minus signs, the Japanese sound mark for a dash, dots in the middle of the line.
    "-": "\u02d7\u2043\u2212\u30fc\uff70\u00b7\u2024\u2027\u2219\u22c5\u30fb",
    "/": "\u2044\u2215",
    "'": "\u2018\u2019\u02bc",  # apostrophes and quotation marks, as in o\u2019brien
}
_COMPATIBLE = ("<wide>", "<small>", "<font>", "<narrow>")  # forms of one character
_COMPATIBLE_BLOCKS = (range(0x2100, 0x2150), range(0xFE50, 0xFE70), range(0xFF01, 0xFFEF),
                      range(0x1D400, 0x1D800))  # fmt: skip


@cache
def fold_table() -> U8:
    """Return what each code point is folded to: uint8[0x110000], ASCII or one of the values above."""
    classes = char_tables()[0]
    table = np.full(NUM_CODE_POINTS, OTHER, np.uint8)
    table[(classes & WORD) != 0] = LETTER
    table[(classes & CJK) != 0] = UNSPACED
    for first, last in UNSPACED_RANGES:
        table[first : last + 1] = UNSPACED
    characters = "".join(chr(point) for point in range(NUM_CODE_POINTS) if point not in SURROGATES)

    def points(pattern: str) -> list[int]:
        return [ord(char) for char in regex.findall(pattern, characters)]

    # A mark belongs to the letter before it: without marks, composed and decomposed text match alike.
    table[points(r"[\p{M}\p{Default_Ignorable_Code_Point}]")] = IGNORED
    table[points(r"\p{Zs}")] = ord(" ")
    table[points(r"\p{Pd}")] = ord("-")
    for char, alike in _LOOKALIKES.items():
        table[[ord(other) for other in alike]] = ord(char)
    for point in points(r"\p{Nd}"):
        table[point] = ord("0") + unicodedata.decimal(chr(point), 0)
    for block in _COMPATIBLE_BLOCKS:
        for point in block:
            form, _, plain = unicodedata.decomposition(chr(point)).partition(" ")
            if form in _COMPATIBLE and len(plain) == 4 and plain < "0080":
                table[point] = int(plain, 16)
    table[:128] = np.arange(128)
    table.setflags(write=False)
    return table


@cache
def trigger_bytes() -> U8:
    """Return uint8[256]: 1 for each byte that begins a digit, ``@`` or ``%``, folded or not."""
    triggers = np.zeros(256, np.uint8)
    chosen = np.isin(fold_table(), np.frombuffer(b"@%0123456789", np.uint8))
    triggers[[chr(point).encode()[0] for point in np.flatnonzero(chosen).tolist()]] = 1
    return triggers


@cache
def _folded_chars() -> dict[str, str]:
    """The characters that folding changes."""
    table = fold_table()
    return {
        chr(point): "" if table[point] == IGNORED else chr(table[point])
        for point in np.flatnonzero(table <= IGNORED).tolist()
        if point >= 128
    }


def fold(text: str) -> tuple[str, Sequence[int]]:
    """Fold a short text; also return the index in ``text`` of each character that is left."""
    if text.isascii():
        return text, range(len(text))
    changed = _folded_chars()
    folded = [(changed.get(char, char), index) for index, char in enumerate(text)]
    kept = [(char, index) for char, index in folded if char]
    return "".join(char for char, _ in kept), [index for _, index in kept]
