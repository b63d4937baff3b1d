"""Gopher's signals of repetition: lines, paragraphs and n-grams that occur more than once.

Rae et al. 2021, https://arxiv.org/abs/2112.11446, table A1.

An n-gram can only be repeated if the (n-1)-grams it begins and ends with are. So every level looks
only at the positions that survived the level before it, and natural text, where few 5-grams repeat,
costs little more than its 2-grams. The result equals counting every n-gram at every position.
"""

import numpy as np
import numpy.typing as npt

from infra.compute.arrays import I32, I64, U8, U64
from infra.compute.jit import jit
from infra.formats.arrow_text import Bytes, Offsets
from infra.formats.unicode_tables import char_tables
from infra.schemas.signals import DUP_NGRAM_SIZES, TOP_NGRAM_SIZES
from tasks.annotate.signals.families import SignalColumns
from tasks.annotate.signals.hashing import (
    FNV_PRIME,
    FNV_SEED,
    add_to_set,
    nonzero_fmix64,
    table_size,
)
from tasks.annotate.signals.lines import NEWLINE, count_newlines, max_newlines, strip_bounds
from tasks.annotate.signals.text_block import TextBlock, safe_divide

MAX_N = max(DUP_NGRAM_SIZES)
MAX_TOP_N = max(TOP_NGRAM_SIZES)

PARAGRAPH_COUNTS = np.dtype([(name, np.int64) for name in ("all", "duplicates", "dup_chars")])


@jit
def _intern(hashes: U64, count: int, table: I32, firsts: I32, classes: I32) -> int:
    """Number equal tokens alike, in order of first occurrence; return how many numbers there are."""
    size = table_size(count)
    table[:size] = 0
    mask = np.uint64(size - 1)
    distinct = 0
    for i in range(count):
        value = hashes[i]
        slot = int(np.int64(value & mask))
        while True:
            existing = int(table[slot]) - 1
            if existing < 0:
                firsts[distinct] = i
                distinct += 1
                table[slot] = distinct
                classes[i] = distinct - 1
                break
            if hashes[firsts[existing]] == value:
                classes[i] = existing
                break
            slot = (slot + 1) & (size - 1)
    return distinct


@jit
def _keep_repeated(positions: I32, classes: I32, count: int, distinct: int, tally: I32) -> int:
    """Drop the positions whose class occurs once; return how many are left."""
    tally[:distinct] = 0
    for j in range(count):
        tally[classes[j]] += 1
    kept = 0
    for j in range(count):
        if tally[classes[j]] > 1:
            positions[kept] = positions[j]
            classes[kept] = classes[j]
            kept += 1
    return kept


@jit
def _extend(positions: I32, classes: I32, count: int, table: I32, keys: U64) -> tuple[int, int]:
    """Join adjacent repeated (n-1)-grams into n-grams, in place; number them by first occurrence.

    Returns how many positions are left, and how many distinct n-grams.
    """
    size = table_size(count)
    table[:size] = 0
    distinct = 0
    kept = 0
    for j in range(count - 1):
        if positions[j + 1] != positions[j] + 1:
            continue
        key = (np.uint64(classes[j]) << np.uint64(32)) | np.uint64(classes[j + 1])
        slot = int(np.int64(nonzero_fmix64(key) & np.uint64(size - 1)))
        while True:
            existing = int(table[slot]) - 1
            if existing < 0:
                keys[distinct] = key
                existing = distinct
                distinct += 1
                table[slot] = distinct
                break
            if keys[existing] == key:
                break
            slot = (slot + 1) & (size - 1)
        positions[kept] = positions[j]
        classes[kept] = existing
        kept += 1
    return kept, distinct


@jit
def _top_ngram_chars(
    n: int, positions: I32, classes: I32, kept: int, distinct: int, tally: I32, char_offsets: I64
) -> int:
    """Characters of the most frequent n-gram, of equals the first, times its occurrences."""
    max_count = 1
    top = -1
    for c in range(distinct):
        if tally[c] > max_count:
            max_count = int(tally[c])
            top = c
    at = 0  # when none is repeated, the first n-gram of the text is the most frequent one
    for j in range(kept):
        if classes[j] == top:
            at = int(positions[j])
            break
    return int(max_count * (char_offsets[at + n] - char_offsets[at] + n - 1))


@jit
def _dup_ngram_chars(
    n: int, positions: I32, classes: I32, kept: int, distinct: int, occurred: I32, char_offsets: I64
) -> int:
    """Characters of the n-grams that occurred before, from the left, skipping each of them whole."""
    occurred[:distinct] = 0
    next_free = 0
    total = 0
    for j in range(kept):
        at = int(positions[j])
        if at < next_free:
            continue
        if occurred[classes[j]]:
            total += char_offsets[at + n] - char_offsets[at]
            next_free = at + n
        else:
            occurred[classes[j]] = 1
    return total


@jit
def _count_ngram_chars(
    hashes: U64, char_offsets: I64, count: int, scratch: I32, table: I32, keys: U64, out: I64
) -> None:
    """Count the characters in top n-grams (n = 2..4) and in duplicated n-grams (n = 5..10).

    Fills ``out`` with a count for n = 2, 3, ..., 10; 0 for a text of fewer than n tokens.
    ``char_offsets`` holds the characters of all tokens before each one; ``scratch`` (3 rows), ``table``
    and ``keys`` are scratch for ``count`` tokens.
    """
    positions, classes, tally = scratch[0], scratch[1], scratch[2]
    distinct = _intern(hashes, count, table, tally, classes)
    for i in range(count):
        positions[i] = i
    kept = _keep_repeated(positions, classes, count, distinct, tally)
    for n in range(2, MAX_N + 1):
        kept, distinct = _extend(positions, classes, kept, table, keys)
        kept = _keep_repeated(positions, classes, kept, distinct, tally)
        if count < n:
            out[n - 2] = 0
        elif n <= MAX_TOP_N:
            out[n - 2] = _top_ngram_chars(
                n, positions, classes, kept, distinct, tally, char_offsets
            )
        else:
            out[n - 2] = _dup_ngram_chars(
                n, positions, classes, kept, distinct, tally, char_offsets
            )


@jit
def _count_repeated_ngrams(token_offsets: Offsets, hashes: U64, lengths: I32, out: I64) -> None:
    """Fill int64[n, MAX_N - 1], a row per document, as `_count_ngram_chars` does."""
    longest = 0
    for d in range(token_offsets.size - 1):
        longest = max(longest, token_offsets[d + 1] - token_offsets[d])
    char_offsets = np.empty(longest + 1, np.int64)
    scratch = np.empty((3, longest), np.int32)
    table = np.empty(table_size(longest), np.int32)
    keys = np.empty(longest, np.uint64)
    for d in range(token_offsets.size - 1):
        start, end = token_offsets[d], token_offsets[d + 1]
        char_offsets[0] = 0
        for i in range(start, end):
            char_offsets[i - start + 1] = char_offsets[i - start] + lengths[i]
        _count_ngram_chars(
            hashes[start:end], char_offsets, end - start, scratch, table, keys, out[d]
        )


@jit
def _count_paragraphs(
    offsets: Offsets, data: Bytes, classes: U8, out: npt.NDArray[np.void]
) -> None:
    """Fill `PARAGRAPH_COUNTS`[n]."""
    table = np.empty(table_size(max_newlines(offsets, data) + 2), np.uint64)
    for d in range(offsets.size - 1):
        size = table_size(count_newlines(data, offsets[d], offsets[d + 1]) + 2)
        table[:size] = np.uint64(0)
        i, end = strip_bounds(data, offsets[d], offsets[d + 1], classes)
        count = duplicates = characters = 0
        while True:
            value = FNV_SEED
            length = 0
            while i < end and not (data[i] == NEWLINE and data[i + 1] == NEWLINE):
                byte = data[i]
                value = (value ^ np.uint64(byte)) * FNV_PRIME
                length += (byte & 0xC0) != 0x80  # continuation bytes begin no character
                i += 1
            count += 1
            if add_to_set(table, size, nonzero_fmix64(value)):
                duplicates += 1
                characters += length
            if i >= end:
                break
            while data[i] == NEWLINE:  # stripped text does not end in one
                i += 1
        out[d]["all"] = count
        out[d]["duplicates"] = duplicates
        out[d]["dup_chars"] = characters


def compute(texts: TextBlock) -> SignalColumns:
    """The family ``gopher_repetition`` of `infra.schemas.signals`."""
    lines, tokens = texts.line_counts, texts.tokens
    characters = lines["characters"]
    paragraphs = np.zeros(len(lines), PARAGRAPH_COUNTS)
    _count_paragraphs(texts.offsets, texts.data, char_tables()[0], paragraphs)
    ngram_chars = np.zeros((len(lines), MAX_N - 1), np.int64)
    _count_repeated_ngrams(tokens.offsets, tokens.hashes, tokens.lengths, ngram_chars)
    return {
        "gopher_repetition_dup_line_fraction": safe_divide(
            lines["newline_run_dup_lines"], lines["newline_run_lines"]
        ),
        "gopher_repetition_dup_paragraph_fraction": safe_divide(
            paragraphs["duplicates"], paragraphs["all"]
        ),
        "gopher_repetition_dup_line_char_fraction": safe_divide(
            lines["newline_run_dup_chars"], characters
        ),
        "gopher_repetition_dup_paragraph_char_fraction": safe_divide(
            paragraphs["dup_chars"], characters
        ),
        **{
            f"gopher_repetition_top_{n}gram_char_fraction": safe_divide(
                ngram_chars[:, n - 2], characters
            )
            for n in TOP_NGRAM_SIZES
        },
        **{
            f"gopher_repetition_dup_{n}gram_char_fraction": safe_divide(
                ngram_chars[:, n - 2], characters
            )
            for n in DUP_NGRAM_SIZES
        },
    }
