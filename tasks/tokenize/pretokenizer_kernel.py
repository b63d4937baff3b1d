"""Cutting text into words as compiled code: the cut of ``Rule.pattern``, on UTF-8 bytes.

Each function says which part of the pattern it follows. Texts are valid UTF-8.
"""

import numpy as np
import numpy.typing as npt

from infra.compute.jit import inlined
from infra.formats.arrow_text import Bytes
from infra.formats.unicode_tables import decode
from tasks.tokenize.char_classes import LETTER, LINE, NUMBER, OTHER, SPACE, Classes
from tasks.tokenize.pretokenizer import Rule

LLAMA3, EACH, THREES, APART = 1, 2, 4, 8
BLANK, APOSTROPHE, LONG_S = 0x20, 0x27, 0x17F
ENDLESS = 1 << 20  # bytes; a longer word (one endless run of letters) is cut there

Run = npt.NDArray[np.int64]


def flags(rule: Rule) -> int:
    """A rule as the kernels take it."""
    return (
        (LLAMA3 if rule.style == "llama3" else 0)
        | {"style": 0, "each": EACH, "threes": THREES}[rule.digits]
        | (APART if rule.spaces == "apart" else 0)
    )


@inlined
def _next(data: Bytes, at: int) -> tuple[int, int]:
    """``decode``, with the common case first."""
    if data[at] < 0x80:
        return int(data[at]), at + 1
    return decode(data, at)


@inlined
def _skip(data: Bytes, at: int, end: int, classes: Classes, kind: int) -> int:
    """The end of a run of one class."""
    while at < end:
        point, after = _next(data, at)
        if classes[point] != kind:
            break
        at = after
    return at


@inlined
def _contraction(data: Bytes, at: int, end: int, llama3: int) -> int:
    """``'s|'t|'re|'ve|'m|'ll|'d`` after the apostrophe; in llama3 in any case. 0: none."""
    if at >= end:
        return 0
    point, after = _next(data, at)
    if llama3 and point == LONG_S:  # folds to s
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


@inlined
def _number(data: Bytes, at: int, end: int, classes: Classes, cut: int, run: Run) -> int:
    """A number from its first digit on: as the style has it, one digit, or a group of three."""
    if cut & EACH:
        return _next(data, at)[1]
    if not cut & (LLAMA3 | THREES):
        return _skip(data, at, end, classes, NUMBER)
    most = 3
    if cut & THREES:
        if at >= run[0]:  # a new number: where it ends, and how many digits it has
            run[0], run[1] = at, 0
            while run[0] < end:
                point, after = _next(data, run[0])
                if classes[point] != NUMBER:
                    break
                run[0], run[1] = after, run[1] + 1
        most = (run[1] - 1) % 3 + 1
        run[1] -= most
    while at < end and most > 0:
        point, after = _next(data, at)
        if classes[point] != NUMBER:
            break
        at, most = after, most - 1
    return at


@inlined
def _white(data: Bytes, at: int, end: int, classes: Classes, llama3: int) -> int:
    r"""``\s*[\r\n]+`` (llama3), then ``\s+(?!\S)|\s+``: all but the last of a run before a word."""
    last = stop = at
    line = 0
    while stop < end:
        point, after = _next(data, stop)
        kind = classes[point]
        if kind not in (SPACE, LINE):
            break
        last, stop = stop, after
        if kind == LINE:
            line = after
    if llama3 and line:
        return line
    return stop if stop == end or last == at else last


@inlined
def word_end(data: Bytes, at: int, end: int, classes: Classes, cut: int, run: Run) -> int:
    """Where the word that starts at byte ``at`` of a text ends.

    Args:
        data: uint8[...] UTF-8.
        at: the word's first byte; the words before it were cut by calls before.
        end: one past the text's last byte.
        classes: ``classes.classes()``.
        cut: ``flags`` of the rule.
        run: int64[2], the number that is being cut into groups; zeros before a new text.
    """
    point, after = _next(data, at)
    kind = int(classes[point])
    llama3 = cut & LLAMA3
    if point == APOSTROPHE:
        stop = _contraction(data, after, end, llama3)
        if stop:
            return stop
    if kind == LETTER:
        return _skip(data, after, end, classes, LETTER)
    if kind == NUMBER:
        return _number(data, at, end, classes, cut, run)
    following, beyond = -1, after
    if after < end:
        point_after, beyond = _next(data, after)
        following = int(classes[point_after])
    if following == LETTER and (point == BLANK or (llama3 and kind != LINE)):
        return _skip(data, beyond, end, classes, LETTER)
    if following == NUMBER and point == BLANK and not cut & (LLAMA3 | EACH | THREES):
        return _skip(data, beyond, end, classes, NUMBER)
    if kind == OTHER or (point == BLANK and following == OTHER):
        stop = _skip(data, after, end, classes, OTHER)
        return _skip(data, stop, end, classes, LINE) if cut & (LLAMA3 | APART) == LLAMA3 else stop
    if cut & APART:
        return after
    return _white(data, at, end, classes, llama3)
