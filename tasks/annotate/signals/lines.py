r"""Counts of lines, shared by the families: duplicates, short lines and sentence ends.

Upstream implementations split lines in three ways, and each signal keeps the one it was published
with: ``str.splitlines`` ("splitlines"), ``str.split("\n")`` without blank lines ("nonblank") and
``re.split("\n+", text)`` ("newline runs").
"""

from functools import cache

import numpy as np
import numpy.typing as npt
import regex

from infra.compute.arrays import U8, U64
from infra.compute.jit import jit
from infra.formats.arrow_text import Bytes, Offsets
from infra.formats.unicode_tables import (
    NUM_CODE_POINTS,
    SPACE,
    SURROGATES,
    char_tables,
    decode_utf8,
)
from tasks.annotate.signals.hashing import (
    FNV_PRIME,
    FNV_SEED,
    add_to_set,
    nonzero_fmix64,
    table_size,
)

LINE_COUNTS = np.dtype(
    [
        (name, np.int64)
        for name in (
            "characters",
            "newlines",
            "newline_run_lines",
            "newline_run_dup_lines",
            "newline_run_dup_chars",
            "nonblank_lines",
            "nonblank_dup_chars",
            "nonblank_terminal_lines",
            "nonblank_short_lines",
        )
    ]
)

MAX_SHORT_LINE_CHARS = 30  # FineWeb

NEWLINE = 0x0A


@cache
def sentence_terminals() -> U8:
    """uint8[0x110000]: 1 where a character has Unicode's Sentence_Terminal property."""
    table = np.zeros(NUM_CODE_POINTS, np.uint8)
    characters = "".join(chr(point) for point in range(NUM_CODE_POINTS) if point not in SURROGATES)
    table[[ord(char) for char in regex.findall(r"\p{Sentence_Terminal}", characters)]] = 1
    table.setflags(write=False)
    return table


@jit
def count_newlines(data: Bytes, start: int, end: int) -> int:
    """The newline bytes in ``data[start:end]``."""
    count = 0
    for i in range(start, end):
        count += data[i] == NEWLINE
    return count


@jit
def max_newlines(offsets: Offsets, data: Bytes) -> int:
    """The largest number of newlines in one of n documents."""
    largest = 0
    for d in range(offsets.size - 1):
        largest = max(largest, count_newlines(data, offsets[d], offsets[d + 1]))
    return largest


@jit
def strip_bounds(data: Bytes, start: int, end: int, classes: U8) -> tuple[int, int]:
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
def _count_document_lines(
    data: Bytes,
    start: int,
    end: int,
    n_newlines: int,
    classes: U8,
    terminals: U8,
    table: U64,
    row: np.void,
) -> None:
    """Fill one row of `LINE_COUNTS` for ``data[start:end]``.

    ``table`` is scratch of at least ``table_size(n_newlines + 2)``.
    """
    size = table_size(n_newlines + 2)
    table[:size] = np.uint64(0)
    run_lines = run_dup_lines = run_dup_chars = 0
    lines = dup_chars = terminal_lines = short_lines = 0
    characters = 0
    i = start
    while True:
        value = FNV_SEED
        length = 0
        last = 0
        blank = True
        line_start = i
        while i < end and data[i] != NEWLINE:
            last, i = decode_utf8(data, i)
            value = (value ^ np.uint64(last)) * FNV_PRIME
            length += 1
            blank &= (classes[last] & SPACE) != 0
        characters += length
        # For newline-runs lines, newlines in a row are one cut: only an empty first or last line is left of them.
        if length or line_start == start or i >= end:
            run_lines += 1
            repeated = add_to_set(table, size, nonzero_fmix64(value))
            if repeated:
                run_dup_lines += 1
                run_dup_chars += length
            if not blank:
                lines += 1
                terminal_lines += terminals[last]
                short_lines += length <= MAX_SHORT_LINE_CHARS
                if repeated:
                    dup_chars += length
        if i >= end:
            break
        i += 1
    row["newline_run_lines"] = run_lines
    row["newline_run_dup_lines"] = run_dup_lines
    row["newline_run_dup_chars"] = run_dup_chars
    row["nonblank_lines"] = lines
    row["nonblank_dup_chars"] = dup_chars
    row["nonblank_terminal_lines"] = terminal_lines
    row["nonblank_short_lines"] = short_lines
    row["newlines"] = n_newlines
    row["characters"] = characters + n_newlines


@jit
def _count_lines(
    offsets: Offsets, data: Bytes, classes: U8, terminals: U8, out: npt.NDArray[np.void]
) -> None:
    table = np.empty(table_size(max_newlines(offsets, data) + 2), np.uint64)
    for d in range(offsets.size - 1):
        start, end = offsets[d], offsets[d + 1]
        n_newlines = count_newlines(data, start, end)
        _count_document_lines(data, start, end, n_newlines, classes, terminals, table, out[d])


def count_lines(offsets: Offsets, data: Bytes) -> npt.NDArray[np.void]:
    """Count the newline-runs and nonblank lines of n documents: `LINE_COUNTS`[n]."""
    out = np.zeros(offsets.size - 1, LINE_COUNTS)
    _count_lines(offsets, data, char_tables()[0], sentence_terminals(), out)
    return out
