r"""The one tokenisation that all quality signals share, as a compiled kernel over UTF-8.

The published thresholds were found with tokenisers that make tokens of punctuation (FineWeb's with
spaCy's English rules), so the rules here follow those closely without their tables:

- A *word* is a run of letters, marks, digits and underscores. Symbols in the middle of it do not
  end it (``don't``, ``3.14``, ``os.path``, ``std::map``, ``f(x``), except a hyphen or dash between
  two letters or two digits, a comma between two letters, one of ``/ : < > =`` before a letter, a
  full stop between a small and a capital letter, and an ellipsis or a run of dashes.
- A character of a script written without spaces (Han, Hiragana, Katakana) is a word by itself.
- Any other character that is not white space is a *symbol* and a token, except that full stops in
  a row are one token, and that ``/ \ - + @ ^ ~ |`` stay with the word they begin or end
  (``--verbose``, ``/usr``, ``C++``) or, away from a word, with each other (``-----``).
"""

import numpy as np
import numpy.typing as npt

from infra.compute.jit import jit
from infra.formats.unicode_tables import (
    ALPHA,
    CJK,
    DIGIT,
    SPACE,
    UPPER,
    WORD,
    char_tables,
    decode_utf8,
)

Bytes = npt.NDArray[np.uint8]
Table = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint64]

# Bits of a token's kind.
IS_WORD, HAS_ALPHA = 1, 2

_SEED = np.uint64(0xCBF29CE484222325)  # the constants of FNV-1a
_PRIME = np.uint64(0x100000001B3)
_UNDERSCORE, _FULL_STOP = 0x5F, 0x2E


@jit
def fmix64(value: np.uint64) -> np.uint64:
    """Spread the entropy of 64 bits over all of them (MurmurHash3's fmix64); never 0."""
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xFF51AFD7ED558CCD)
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xC4CEB9FE1A85EC53)
    value ^= value >> np.uint64(33)
    return value if value != np.uint64(0) else np.uint64(1)


@jit
def is_separator(symbol: int, run: int, before: int, after: int) -> bool:
    """Whether symbols between two word characters end the word.

    Args:
        symbol: the first of the symbols.
        run: their number, or 0 if they are not all equal.
        before: class flags of the character before them.
        after: class flags of the character after them.
    """
    if run == 0:
        return False
    dash = symbol in (0x2D, 0x2013, 0x2014, 0x7E)  # hyphen, en and em dash, ~
    if run > 1:
        return dash or symbol == 0x2E
    if dash:
        return (before & after & (ALPHA | DIGIT)) != 0
    if symbol == 0x2E:
        return (before & (ALPHA | UPPER)) == ALPHA and (after & UPPER) != 0
    if symbol == 0x2C:
        return (before & after & ALPHA) != 0
    if symbol in (0x2F, 0x3A, 0x3C, 0x3D, 0x3E):  # / : < = >
        return (after & ALPHA) != 0
    return symbol == 0x2026  # …


@jit
def is_joiner(symbol: int) -> bool:
    r"""Whether a symbol stays with the word it touches: one of ``/ \ - + @ ^ ~ |``."""
    return symbol in (0x2F, 0x5C, 0x2D, 0x2B, 0x40, 0x5E, 0x7E, 0x7C)


@jit
def _continue_word(data: Bytes, i: int, end: int, classes: Table, before: int) -> int:
    """Where a word that paused at byte ``i`` goes on behind symbols; ``i`` if it has ended."""
    first = 0
    run = 0
    equal = True
    clinging = i  # the byte after the symbols that stay with the word even if it ends here
    j = i
    while j < end:
        point, following = decode_utf8(data, j)
        flags = int(classes[point])
        if flags & CJK or flags & SPACE:
            break
        if flags & WORD:
            return i if run and is_separator(first, run if equal else 0, before, flags) else j
        if run == 0:
            first = point
        if clinging == j and is_joiner(point):
            clinging = following
        equal = equal and point == first
        run += 1
        j = following
    return clinging


@jit
def _char_kind(point: int, flags: int) -> int:
    """What a character of a word makes of the word."""
    kind = IS_WORD if flags & WORD and point != _UNDERSCORE else 0
    return kind | (HAS_ALPHA if flags & ALPHA else 0)


@jit
def tokenize(
    data: Bytes,
    start: int,
    end: int,
    classes: Table,
    hashes: Hashes,
    lengths: npt.NDArray[np.int32],
    kinds: Table,
) -> int:
    """Cut ``data[start:end]`` into tokens.

    Args:
        data: valid UTF-8.
        start: first byte of the document.
        end: byte after its last.
        classes: `infra.formats.unicode_tables.char_tables`.
        hashes: filled with a 64-bit hash of each token's characters.
        lengths: filled with the characters of each token.
        kinds: filled with ``IS_WORD`` (a letter, mark or digit is in it) and ``HAS_ALPHA`` bits.

    Returns:
        The number of tokens. Where it exceeds the outputs' length, the tokens beyond were counted
        but not written.
    """
    count = 0
    word_end = -1  # the byte after the last word
    i = start
    while i < end:
        point, after = decode_utf8(data, i)
        flags = int(classes[point])
        if flags & SPACE:
            i = after
            continue
        value = (_SEED ^ np.uint64(point)) * _PRIME
        length = 1
        kind = 0
        if not flags & WORD:
            loose = is_joiner(point) and i != word_end
            while after < end:
                beyond, following = decode_utf8(data, after)
                if not (loose and is_joiner(beyond)) and not (point == beyond == _FULL_STOP):
                    break
                value = (value ^ np.uint64(beyond)) * _PRIME
                length += 1
                after = following
            if loose and after < end:
                beyond, following = decode_utf8(data, after)
                if classes[beyond] & (WORD | CJK) == WORD:
                    point, after = beyond, following
                    flags = int(classes[point])
                    value = (value ^ np.uint64(point)) * _PRIME
                    length += 1
        if flags & WORD:
            kind = _char_kind(point, flags)
            resume = after
            while not flags & CJK and after < end:
                point, following = decode_utf8(data, after)
                inner = int(classes[point])
                if after >= resume:
                    if inner & CJK:
                        break
                    if inner & WORD:
                        flags = inner
                    else:
                        resume = _continue_word(data, after, end, classes, flags)
                        if resume == after:
                            break
                value = (value ^ np.uint64(point)) * _PRIME
                length += 1
                kind |= _char_kind(point, inner)
                after = following
            word_end = after
        if count < hashes.size:
            hashes[count] = fmix64(value)
            lengths[count] = length
            kinds[count] = kind
        count += 1
        i = after
    return count


def hash_token(word: str) -> np.uint64:
    """The hash that `tokenize` gives a token of these characters.

    Raises:
        ValueError: if they are not exactly one token.
    """
    data = np.frombuffer(word.encode(), dtype=np.uint8)
    hashes = np.zeros(1, np.uint64)
    found = tokenize(
        data, 0, data.size, char_tables()[0], hashes, np.zeros(1, np.int32), np.zeros(1, np.uint8)
    )
    if found != 1:
        raise ValueError(f"{word!r} is {found} tokens, not one")
    return np.uint64(hashes[0])
