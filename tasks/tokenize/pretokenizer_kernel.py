"""Pre-tokenization in compiled code: the words of ``PretokenizerRule.pattern``, on UTF-8 bytes.

Each function names the part of the pattern that it implements. Texts are valid UTF-8.
"""

from infra.compute.arrays import I64
from infra.compute.jit import jit_inline
from infra.formats.arrow_text import Bytes
from infra.formats.unicode_tables import decode_utf8
from tasks.tokenize.char_classes import LETTER, NEWLINE, NUMBER, OTHER, SPACE, CharClasses
from tasks.tokenize.pretokenizer import PretokenizerRule

LLAMA3, INDIVIDUAL_DIGITS, GROUPS_OF_THREE, SPLIT_SPACES = 1, 2, 4, 8
BLANK, APOSTROPHE, LONG_S = 0x20, 0x27, 0x17F
MAX_WORD_BYTES = 1 << 20  # a longer word (an unbroken run of letters) is split at this length


def rule_flags(rule: PretokenizerRule) -> int:
    """Return a rule as the bit flags that the kernels take."""
    return (
        (LLAMA3 if rule.style == "llama3" else 0)
        | {"default": 0, "individual": INDIVIDUAL_DIGITS, "groups_of_three": GROUPS_OF_THREE}[
            rule.digits
        ]
        | (SPLIT_SPACES if rule.spaces == "split" else 0)
    )


@jit_inline
def _decode_next(data: Bytes, at: int) -> tuple[int, int]:
    """Decode one code point; ``decode_utf8`` with a fast path for ASCII."""
    if data[at] < 0x80:
        return int(data[at]), at + 1
    return decode_utf8(data, at)


@jit_inline
def _skip(data: Bytes, at: int, end: int, classes: CharClasses, kind: int) -> int:
    """Return the end of a run of code points of one class."""
    while at < end:
        point, after = _decode_next(data, at)
        if classes[point] != kind:
            break
        at = after
    return at


@jit_inline
def _contraction(data: Bytes, at: int, end: int, llama3: int) -> int:
    """Match ``'s|'t|'re|'ve|'m|'ll|'d`` after the apostrophe.

    llama3 ignores case. Returns the end of the match, or 0 if there is none.
    """
    if at >= end:
        return 0
    point, after = _decode_next(data, at)
    if llama3 and point == LONG_S:  # case-folds to s
        return after
    if point >= 0x80:
        return 0
    first = point | 0x20 if llama3 else point
    if first in (0x73, 0x74, 0x6D, 0x64):  # s t m d
        return after
    if after < end:
        second = int(data[after]) | 0x20 if llama3 else int(data[after])
        if (first in (0x72, 0x76) and second == 0x65) or (first == 0x6C and second == 0x6C):
            return after + 1  # re ve ll
    return 0


@jit_inline
def _number(data: Bytes, at: int, end: int, classes: CharClasses, flags: int, run: I64) -> int:
    """Return the end of the word that starts at a digit: a number, one digit or a group of three."""
    if flags & INDIVIDUAL_DIGITS:
        return _decode_next(data, at)[1]
    if not flags & (LLAMA3 | GROUPS_OF_THREE):
        return _skip(data, at, end, classes, NUMBER)
    max_digits = 3
    if flags & GROUPS_OF_THREE:
        if at >= run[0]:  # a new number: find its end and count its digits
            run[0], run[1] = at, 0
            while run[0] < end:
                point, after = _decode_next(data, run[0])
                if classes[point] != NUMBER:
                    break
                run[0], run[1] = after, run[1] + 1
        max_digits = (run[1] - 1) % 3 + 1
        run[1] -= max_digits
    while at < end and max_digits > 0:
        point, after = _decode_next(data, at)
        if classes[point] != NUMBER:
            break
        at, max_digits = after, max_digits - 1
    return at


@jit_inline
def _whitespace(data: Bytes, at: int, end: int, classes: CharClasses, llama3: int) -> int:
    r"""Match ``\s*[\r\n]+`` (llama3), then ``\s+(?!\S)|\s+``.

    Before a word, the last character of the run is left to that word.
    """
    last = stop = at
    line_end = 0
    while stop < end:
        point, after = _decode_next(data, stop)
        kind = classes[point]
        if kind not in (SPACE, NEWLINE):
            break
        last, stop = stop, after
        if kind == NEWLINE:
            line_end = after
    if llama3 and line_end:
        return line_end
    return stop if stop == end or last == at else last


@jit_inline
def word_end(data: Bytes, at: int, end: int, classes: CharClasses, flags: int, run: I64) -> int:
    """Return the end of the word that starts at byte ``at`` of a text.

    A text that ends at byte ``end`` is split by successive calls, each from the last end. ``run``
    (int64[2], zeros before a new text) is the state of the number that is being split into groups of
    three: its end and the digits left.
    """
    point, after = _decode_next(data, at)
    kind = int(classes[point])
    llama3 = flags & LLAMA3
    if point == APOSTROPHE:
        stop = _contraction(data, after, end, llama3)
        if stop:
            return stop
    if kind == LETTER:
        return _skip(data, after, end, classes, LETTER)
    if kind == NUMBER:
        return _number(data, at, end, classes, flags, run)
    following, beyond = -1, after
    if after < end:
        point_after, beyond = _decode_next(data, after)
        following = int(classes[point_after])
    if following == LETTER and (point == BLANK or (llama3 and kind != NEWLINE)):
        return _skip(data, beyond, end, classes, LETTER)
    if (
        following == NUMBER
        and point == BLANK
        and not flags & (LLAMA3 | INDIVIDUAL_DIGITS | GROUPS_OF_THREE)
    ):
        return _skip(data, beyond, end, classes, NUMBER)
    if kind == OTHER or (point == BLANK and following == OTHER):
        stop = _skip(data, after, end, classes, OTHER)
        return (
            _skip(data, stop, end, classes, NEWLINE)
            if flags & (LLAMA3 | SPLIT_SPACES) == LLAMA3
            else stop
        )
    if flags & SPLIT_SPACES:
        return after
    return _whitespace(data, at, end, classes, llama3)
