"""Gopher's quality signals: words, stop words, bullets and ellipses.

Rae et al. 2021, https://arxiv.org/abs/2112.11446, appendix A.1.1.
"""

from functools import cache

import numpy as np
import numpy.typing as npt

from infra.compute.arrays import I32, I64, U8, U64
from infra.compute.jit import jit
from infra.formats.arrow_text import Bytes, Offsets
from infra.formats.unicode_tables import LINE_BREAK, SPACE, char_tables, decode_utf8
from tasks.annotate.signals.families import SignalColumns
from tasks.annotate.signals.lines import NEWLINE
from tasks.annotate.signals.text_block import TextBlock, safe_divide
from tasks.annotate.signals.tokens import hash_token

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
MAX_STOP_WORD_CHARS = max(map(len, STOP_WORDS))

# Counts of splitlines lines, and of marks anywhere in the text.
MARK_COUNTS = np.dtype(
    [
        (name, np.int64)
        for name in ("lines", "bullet_lines", "ellipsis_lines", "number_signs", "ellipses")
    ]
)


@cache
def stop_word_hashes() -> U64:
    """The hashes of the stop words as tokens."""
    return np.array([hash_token(word) for word in STOP_WORDS], np.uint64)


@jit
def _count_stop_words(
    token_offsets: Offsets, hashes: U64, lengths: I32, stop_words: U64, out: I64
) -> None:
    """Fill int64[n] with how many different stop words occur in each document."""
    for d in range(token_offsets.size - 1):
        occurring = 0  # a bit per stop word
        for i in range(token_offsets[d], token_offsets[d + 1]):
            if lengths[i] <= MAX_STOP_WORD_CHARS:
                for k in range(stop_words.size):
                    if hashes[i] == stop_words[k]:
                        occurring |= 1 << k
        for k in range(stop_words.size):
            out[d] += (occurring >> k) & 1


@jit
def _count_document_marks(data: Bytes, start: int, end: int, classes: U8, row: np.void) -> None:
    """Fill one row of `MARK_COUNTS` for the document ``data[start:end]``."""
    lines = bullets = ellipsis_lines = 0
    number_signs = ellipses = 0
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
                    ellipses += 1
            else:
                dots = 0
            if flags & LINE_BREAK:
                if point == 0x0D and i < end and data[i] == NEWLINE:
                    i += 1
                break
            if flags & SPACE:
                continue
            if first < 0:
                first = point
            number_signs += point == 0x23
            ellipses += point == 0x2026
            ends_in_ellipsis = point == 0x2026 or dots >= 3
        lines += 1
        bullets += first == 0x2022 or first == 0x2D
        ellipsis_lines += ends_in_ellipsis
    row["lines"] = lines
    row["bullet_lines"] = bullets
    row["ellipsis_lines"] = ellipsis_lines
    row["number_signs"] = number_signs
    row["ellipses"] = ellipses


@jit
def _count_marks(offsets: Offsets, data: Bytes, classes: U8, out: npt.NDArray[np.void]) -> None:
    for d in range(offsets.size - 1):
        _count_document_marks(data, offsets[d], offsets[d + 1], classes, out[d])


def compute(texts: TextBlock) -> SignalColumns:
    """The family ``gopher_quality`` of `infra.schemas.signals`."""
    counts, tokens = texts.token_counts, texts.tokens
    stop_words = np.zeros(len(counts), np.int64)
    _count_stop_words(tokens.offsets, tokens.hashes, tokens.lengths, stop_word_hashes(), stop_words)
    marks = np.zeros(len(counts), MARK_COUNTS)
    _count_marks(texts.offsets, texts.data, char_tables()[0], marks)
    return {
        "gopher_quality_word_count": counts["words"],
        "gopher_quality_mean_word_length": safe_divide(counts["word_characters"], counts["words"]),
        "gopher_quality_hash_word_ratio": safe_divide(marks["number_signs"], counts["tokens"]),
        "gopher_quality_ellipsis_word_ratio": safe_divide(marks["ellipses"], counts["tokens"]),
        "gopher_quality_bullet_line_fraction": safe_divide(marks["bullet_lines"], marks["lines"]),
        "gopher_quality_ellipsis_line_fraction": safe_divide(
            marks["ellipsis_lines"], marks["lines"]
        ),
        "gopher_quality_alpha_word_fraction": safe_divide(counts["alpha_tokens"], counts["tokens"]),
        "gopher_quality_stop_words": stop_words,
    }
