"""Hashes of the lines or paragraphs of texts: the definition, and the data set `lines`.

* *line*: the text between two newlines. *Paragraph*: consecutive lines that are not blank.
* Units are compared in folded form: every character in simple lower case, each run of white space
  replaced by one space, none at either end. So a paragraph is the same however its lines are wrapped.
* Hashes have 64 bits; the texts themselves are not compared.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from infra.compute.arrays import I32, I64, U8, U64
from infra.compute.jit import jit
from infra.dataset.dataset import Dataset, PartRef
from infra.dataset.mixers import fmix64
from infra.dataset.stage import Context, Stage
from infra.formats.arrow_text import utf8_buffers
from infra.formats.unicode_tables import SPACE, char_tables, decode_utf8
from tasks.select.repeated_text.config import LineDedupConfig
from tasks.select.repeated_text.hash_datasets import SEED, build_hashes, update_hash

STAGE = Stage("lines", modules=("tasks.select.repeated_text.line_hashes",), libraries=("pyarrow",))
_NEWLINE = 0x0A
_BLANK = 0x20


@jit
def _scan_units(
    data: U8,
    i: int,
    end: int,
    classes: U8,
    lower: I32,
    paragraphs: int,
    min_length: int,
    hashes: U64,
    starts: I64,
    ends: I64,
) -> int:
    """Find the units of ``data[i:end]`` with at least ``min_length`` folded characters.

    ``starts`` and ``ends`` receive offsets in characters: of the unit's first line, and of the line
    that follows it (for a paragraph: of the next paragraph's first line). Returns their number.
    """
    n = 0
    at = 0  # characters read
    line = 0  # offset of the current line
    first = 0  # offset of the current unit
    length = 0  # its folded characters
    value = SEED
    space = False
    blank = True
    waiting = -1  # index of a unit whose end is not known yet
    while True:
        point = _NEWLINE
        last = i >= end
        if not last:
            point, i = decode_utf8(data, i)
            at += 1
        if point == _NEWLINE:
            if length and (last or blank or paragraphs == 0):
                if length >= min_length:
                    hashes[n] = fmix64(value)
                    starts[n] = first
                    ends[n] = at
                    if paragraphs != 0:
                        waiting = n
                    n += 1
                length = 0
            if last:
                break
            space = True
            blank = True
            line = at
        elif classes[point] & SPACE:
            space = True
        else:
            if length == 0:
                first = line
                value = SEED
                if waiting >= 0:
                    ends[waiting] = line
                    waiting = -1
            elif space:
                value = update_hash(value, _BLANK)
                length += 1
            space = False
            blank = False
            value = update_hash(value, lower[point])
            length += 1
    if waiting >= 0:
        ends[waiting] = at
    return n


@jit
def _count_newlines(data: U8, start: int, end: int) -> int:
    count = 0
    for i in range(start, end):
        count += data[i] == _NEWLINE
    return count


@jit
def _hash_units(
    offsets: I64, data: U8, classes: U8, lower: I32, paragraphs: int, min_length: int
) -> tuple[I64, U64]:
    """Return the distinct hashes of each text, ascending: bounds by text, and the hashes."""
    rows = len(offsets) - 1
    max_newlines = 0
    for row in range(rows):
        max_newlines = max(max_newlines, _count_newlines(data, offsets[row], offsets[row + 1]))
    hashes = np.empty(max_newlines + 1, np.uint64)
    starts = np.empty(max_newlines + 1, np.int64)
    ends = np.empty(max_newlines + 1, np.int64)
    out = np.empty(1024, np.uint64)
    bounds = np.zeros(rows + 1, np.int64)
    n = 0
    for row in range(rows):
        start, end = offsets[row], offsets[row + 1]
        count = _scan_units(
            data, start, end, classes, lower, paragraphs, min_length, hashes, starts, ends
        )
        if n + count > len(out):
            larger = np.empty(2 * (n + count), np.uint64)
            larger[:n] = out[:n]
            out = larger
        ordered = np.sort(hashes[:count])
        for k in range(count):
            if k == 0 or ordered[k] != ordered[k - 1]:
                out[n] = ordered[k]
                n += 1
        bounds[row + 1] = n
    return bounds, out[:n].copy()


def hash_lines(
    texts: "pa.Array[Any] | pa.ChunkedArray[Any]", config: LineDedupConfig
) -> "pa.Array[Any]":
    """Return the distinct hashes of each text's units: a list of uint64 per row, ascending."""
    offsets, data = utf8_buffers(texts)
    paragraphs = int(config.unit == "paragraph")
    bounds, hashes = _hash_units(offsets, data, *char_tables(), paragraphs, config.min_characters)
    return pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), pa.array(hashes))


def locate_lines(text: str, config: LineDedupConfig) -> tuple[U64, I64, I64]:
    """Return the units of a text in order: hashes, starts and ends in characters."""
    data = np.frombuffer(text.encode(), np.uint8)
    max_units = text.count("\n") + 1
    hashes = np.empty(max_units, np.uint64)
    starts, ends = np.empty(max_units, np.int64), np.empty(max_units, np.int64)
    paragraphs = int(config.unit == "paragraph")
    n = _scan_units(
        data, 0, len(data), *char_tables(), paragraphs, config.min_characters, hashes, starts, ends
    )
    return hashes[:n], starts[:n], ends[:n]


def build_line_hashes(
    ctx: Context, config: LineDedupConfig, documents: Sequence[Dataset]
) -> list[PartRef]:
    """Build the hashes of all parts, row-aligned with the documents, in the order of the sources."""
    settings = {"unit": config.unit, "min_characters": config.min_characters}
    return build_hashes(ctx, STAGE, settings, hash_lines, config, documents)
