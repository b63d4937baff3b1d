r"""The tokenization that all quality signals share, as a compiled kernel over UTF-8.

The published thresholds were found with tokenizers that make tokens of punctuation (FineWeb's with
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

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from infra.compute.arrays import I32, U8, U64
from infra.compute.jit import jit
from infra.formats.arrow_text import Bytes, Offsets
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
from tasks.annotate.signals.hashing import FNV_PRIME, FNV_SEED, nonzero_fmix64

# Bits of a token's kind.
IS_WORD, HAS_ALPHA = 1, 2

TOKEN_COUNTS = np.dtype(
    [(name, np.int64) for name in ("tokens", "words", "word_characters", "alpha_tokens")]
)

_BYTES_PER_TOKEN = 3  # fewer than text has on average, for the size of the first buffers
_UNDERSCORE, _FULL_STOP = 0x5F, 0x2E


@dataclass(frozen=True)
class Tokens:
    """The tokens of n documents.

    Attributes:
        offsets: int64[n + 1]; document i has the tokens ``offsets[i]:offsets[i + 1]``.
        hashes: a 64-bit hash of each token's characters.
        lengths: the characters of each token.
        kinds: ``IS_WORD`` and ``HAS_ALPHA`` bits of each token.
    """

    offsets: Offsets
    hashes: U64
    lengths: I32
    kinds: U8


@jit
def is_separator(symbol: int, run: int, before: int, after: int) -> bool:
    """Whether symbols between two word characters end the word.

    ``symbol`` is the first of them, ``run`` their number, or 0 if they are not all equal; ``before``
    and ``after`` are the class flags of the characters around them.
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
def _continue_word(data: Bytes, i: int, end: int, classes: U8, before: int) -> int:
    """The byte at which a word continues behind the symbols at ``i``; ``i`` if it has ended."""
    first = 0
    run = 0
    equal = True
    joined_end = i  # the byte after the symbols that stay with the word even if it ends here
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
        if joined_end == j and is_joiner(point):
            joined_end = following
        equal = equal and point == first
        run += 1
        j = following
    return joined_end


@jit
def _char_kind(point: int, flags: int) -> int:
    """The bits that a character adds to the kind of its word."""
    kind = IS_WORD if flags & WORD and point != _UNDERSCORE else 0
    return kind | (HAS_ALPHA if flags & ALPHA else 0)


@jit
def tokenize(
    data: Bytes, start: int, end: int, classes: U8, hashes: U64, lengths: I32, kinds: U8
) -> int:
    """Split ``data[start:end]`` into tokens, described as in `Tokens`; return their number.

    Tokens beyond the length of the outputs are counted, not written.
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
        value = (FNV_SEED ^ np.uint64(point)) * FNV_PRIME
        length = 1
        kind = 0
        if not flags & WORD:
            starts_run = is_joiner(point) and i != word_end
            while after < end:
                next_point, following = decode_utf8(data, after)
                if not (starts_run and is_joiner(next_point)) and not (
                    point == next_point == _FULL_STOP
                ):
                    break
                value = (value ^ np.uint64(next_point)) * FNV_PRIME
                length += 1
                after = following
            if starts_run and after < end:
                next_point, following = decode_utf8(data, after)
                if classes[next_point] & (WORD | CJK) == WORD:
                    point, after = next_point, following
                    flags = int(classes[point])
                    value = (value ^ np.uint64(point)) * FNV_PRIME
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
                value = (value ^ np.uint64(point)) * FNV_PRIME
                length += 1
                kind |= _char_kind(point, inner)
                after = following
            word_end = after
        if count < hashes.size:
            hashes[count] = nonzero_fmix64(value)
            lengths[count] = length
            kinds[count] = kind
        count += 1
        i = after
    return count


@jit
def _tokenize_documents(
    offsets: Offsets,
    data: Bytes,
    classes: U8,
    token_offsets: Offsets,
    hashes: U64,
    lengths: I32,
    kinds: U8,
) -> int:
    """Tokenize n documents into one sequence; return its length, as `tokenize` does."""
    count = 0
    for d in range(offsets.size - 1):
        first = min(count, hashes.size)
        count += tokenize(
            data,
            offsets[d],
            offsets[d + 1],
            classes,
            hashes[first:],
            lengths[first:],
            kinds[first:],
        )
        token_offsets[d + 1] = count
    return count


def tokenize_documents(offsets: Offsets, data: Bytes) -> Tokens:
    """Split n documents into tokens."""
    token_offsets = np.zeros(offsets.size, np.int64)
    capacity = int(offsets[-1] - offsets[0]) // _BYTES_PER_TOKEN + 1
    while True:
        hashes = np.empty(capacity, np.uint64)
        lengths, kinds = np.empty(capacity, np.int32), np.empty(capacity, np.uint8)
        count = _tokenize_documents(
            offsets, data, char_tables()[0], token_offsets, hashes, lengths, kinds
        )
        if count <= capacity:
            return Tokens(token_offsets, hashes[:count], lengths[:count], kinds[:count])
        capacity = count


@jit
def _count_tokens(offsets: Offsets, lengths: I32, kinds: U8, out: npt.NDArray[np.void]) -> None:
    for d in range(offsets.size - 1):
        words = characters = alpha = 0
        for i in range(offsets[d], offsets[d + 1]):
            if kinds[i] & IS_WORD:
                words += 1
                characters += lengths[i]
            if kinds[i] & HAS_ALPHA:
                alpha += 1
        out[d]["tokens"] = offsets[d + 1] - offsets[d]
        out[d]["words"] = words
        out[d]["word_characters"] = characters
        out[d]["alpha_tokens"] = alpha


def count_tokens(tokens: Tokens) -> npt.NDArray[np.void]:
    """Count the tokens of n documents by kind: `TOKEN_COUNTS`[n]."""
    out = np.zeros(tokens.offsets.size - 1, TOKEN_COUNTS)
    _count_tokens(tokens.offsets, tokens.lengths, tokens.kinds, out)
    return out


def hash_token(word: str) -> np.uint64:
    """The hash that `tokenize` gives a token of these characters.

    Raises:
        ValueError: if they are not exactly one token.
    """
    data = np.frombuffer(word.encode(), dtype=np.uint8)
    tokens = tokenize_documents(np.array([0, data.size], np.int64), data)
    if len(tokens.hashes) != 1:
        raise ValueError(f"{word!r} is {len(tokens.hashes)} tokens, not one")
    return np.uint64(tokens.hashes[0])
