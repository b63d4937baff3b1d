r"""Signals of lines and paragraphs: duplicates, bullets, ellipses, short and unfinished lines.

Three ways to cut lines are in use upstream, and each signal keeps the one it was published with:
``str.splitlines`` (splitlines lines), ``str.split("\n")`` without blank lines (nonblank lines) and
``re.split("\n+", text)`` (newline-runs lines).
"""

import numpy as np
import numpy.typing as npt

from infra.compute.jit import jit
from infra.formats.unicode_tables import LINE_BREAK, SPACE, decode_utf8
from tasks.annotate.signals.gopher_repetition import table_size
from tasks.annotate.signals.tokens import Bytes, Hashes, Table, fmix64

# Places in the output of `duplicates`.
NEWLINE_RUN_LINES, NEWLINE_RUN_DUP_LINES, NEWLINE_RUN_DUP_CHARS = 0, 1, 2
PARAGRAPHS, DUP_PARAGRAPHS, PARAGRAPH_DUP_CHARS = 3, 4, 5
NONBLANK_LINES, NONBLANK_DUP_CHARS, NONBLANK_TERMINAL, NONBLANK_SHORT, NEWLINES = 6, 7, 8, 9, 10
CHARACTERS = 11
# Places in the output of `count_bullets_and_ellipses`.
SPLITLINES_LINES, SPLITLINES_BULLETS, SPLITLINES_ELLIPSES, HASH_SIGNS, ELLIPSES = 12, 13, 14, 15, 16
N_COUNTS = 17

SHORT_LINE = 30  # characters; FineWeb

_NEWLINE = 0x0A
_SEED = np.uint64(0xCBF29CE484222325)
_PRIME = np.uint64(0x100000001B3)


@jit
def count_newlines(data: Bytes, start: int, end: int) -> int:
    """The newline bytes in ``data[start:end]``."""
    found = 0
    for i in range(start, end):
        found += data[i] == 0x0A
    return found


@jit
def strip_bounds(data: Bytes, start: int, end: int, classes: Table) -> tuple[int, int]:
    """The bounds of ``data[start:end]`` without the white space around it, as ``str.strip``."""
    while start < end:
        point, after = decode_utf8(data, start)
        if not classes[point] & SPACE:
            break
        start = after
    while end > start:
        at = end - 1
        while (data[at] & 0xC0) == 0x80:  # back to the character's first byte
            at -= 1
        point, _ = decode_utf8(data, at)
        if not classes[point] & SPACE:
            break
        end = at
    return start, end


@jit
def _test_and_add(table: Hashes, size: int, value: np.uint64) -> bool:
    """Whether the set holds ``value``, which it does from now on."""
    slot = np.int64(value & np.uint64(size - 1))
    while table[slot] != np.uint64(0):
        if table[slot] == value:
            return True
        slot = (slot + 1) & (size - 1)
    table[slot] = value
    return False


@jit
def count_lines(
    data: Bytes,
    start: int,
    end: int,
    n_newlines: int,
    classes: Table,
    terminals: Table,
    table: Hashes,
    out: npt.NDArray[np.int64],
) -> None:
    """Count the newline-runs and nonblank lines.

    Args:
        data: valid UTF-8.
        start: first byte of the document.
        end: byte after its last.
        n_newlines: its newlines.
        classes: `infra.formats.unicode_tables.char_tables`.
        terminals: uint8[0x110000], 1 where a character ends a sentence.
        table: uint64[>= table_size(breaks + 2)], scratch.
        out: int64[COUNTS]; the places R_*, N_*, NEWLINES and CHARACTERS are filled.
    """
    size = table_size(n_newlines + 2)
    table[:size] = np.uint64(0)
    r_lines = r_duplicates = r_chars = 0
    n_lines = n_chars = n_terminal = n_short = 0
    characters = 0
    i = start
    while True:
        value = _SEED
        length = 0
        last = 0
        blank = True
        at = i
        while i < end and data[i] != _NEWLINE:
            last, i = decode_utf8(data, i)
            value = (value ^ np.uint64(last)) * _PRIME
            length += 1
            blank &= (classes[last] & SPACE) != 0
        characters += length
        # For newline-runs lines, newlines in a row are one cut: only an empty first or last line is left of them.
        if length or at == start or i >= end:
            r_lines += 1
            repeated = _test_and_add(table, size, fmix64(value))
            if repeated:
                r_duplicates += 1
                r_chars += length
            if not blank:
                n_lines += 1
                n_terminal += terminals[last]
                n_short += length <= SHORT_LINE
                if repeated:
                    n_chars += length
        if i >= end:
            break
        i += 1
    out[NEWLINE_RUN_LINES] = r_lines
    out[NEWLINE_RUN_DUP_LINES] = r_duplicates
    out[NEWLINE_RUN_DUP_CHARS] = r_chars
    out[NONBLANK_LINES] = n_lines
    out[NONBLANK_DUP_CHARS] = n_chars
    out[NONBLANK_TERMINAL] = n_terminal
    out[NONBLANK_SHORT] = n_short
    out[NEWLINES] = n_newlines
    out[CHARACTERS] = characters + n_newlines


@jit
def count_paragraphs(
    data: Bytes,
    start: int,
    end: int,
    n_newlines: int,
    classes: Table,
    table: Hashes,
    out: npt.NDArray[np.int64],
) -> None:
    """Count paragraphs; arguments as for `count_lines`, the places *PARAGRAPH* of ``out`` are filled."""
    size = table_size(n_newlines + 2)
    table[:size] = np.uint64(0)
    first, last = strip_bounds(data, start, end, classes)
    count = duplicates = characters = 0
    i = first
    while True:
        value = _SEED
        length = 0
        while i < last and not (data[i] == _NEWLINE and data[i + 1] == _NEWLINE):
            byte = data[i]
            value = (value ^ np.uint64(byte)) * _PRIME
            length += (byte & 0xC0) != 0x80  # continuation bytes begin no character
            i += 1
        count += 1
        if _test_and_add(table, size, fmix64(value)):
            duplicates += 1
            characters += length
        if i >= last:
            break
        while data[i] == _NEWLINE:  # stripped text does not end in one
            i += 1
    out[PARAGRAPHS] = count
    out[DUP_PARAGRAPHS] = duplicates
    out[PARAGRAPH_DUP_CHARS] = characters


@jit
def count_bullets_and_ellipses(
    data: Bytes, start: int, end: int, classes: Table, out: npt.NDArray[np.int64]
) -> None:
    """Count splitlines lines, their bullets and ellipses; arguments as for `count_lines`."""
    count = bullets = ellipses = 0
    hashes = marks = 0
    i = start
    while i < end:
        first = -1
        dots = 0
        ends_in_ellipsis = False
        while i < end:
            point, i = decode_utf8(data, i)
            flags = classes[point]
            if point == 0x2E:
                dots += 1
                if dots % 3 == 0:
                    marks += 1
            else:
                dots = 0
            if flags & LINE_BREAK:
                if point == 0x0D and i < end and data[i] == _NEWLINE:
                    i += 1
                break
            if flags & SPACE:
                continue
            if first < 0:
                first = point
            hashes += point == 0x23
            marks += point == 0x2026
            ends_in_ellipsis = point == 0x2026 or dots >= 3
        count += 1
        bullets += first == 0x2022 or first == 0x2D
        ellipses += ends_in_ellipsis
    out[SPLITLINES_LINES] = count
    out[SPLITLINES_BULLETS] = bullets
    out[SPLITLINES_ELLIPSES] = ellipses
    out[HASH_SIGNS] = hashes
    out[ELLIPSES] = marks
