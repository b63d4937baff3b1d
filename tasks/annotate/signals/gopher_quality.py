"""All quality signals of a column of texts, from one walk per family over its UTF-8 buffer."""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import regex

from infra.compute.jit import jit
from infra.formats.arrow_text import Offsets, utf8_buffers
from infra.formats.unicode_tables import NUM_CODE_POINTS, char_tables
from infra.schemas.signals import SIGNALS
from tasks.annotate.signals import c4, gopher_repetition, lines, tokens
from tasks.annotate.signals.tokens import Bytes, Hashes, Table

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")  # Gopher

# Places of the token counts in a row of `_count_documents`, before those of the other families.
N_TOKENS, N_WORDS, WORD_CHARACTERS, N_ALPHA_TOKENS, DISTINCT_STOP_WORDS = 0, 1, 2, 3, 4
NGRAMS_START = 5
LINES_START = NGRAMS_START + gopher_repetition.MAX_N - 1
C4_START = LINES_START + lines.N_COUNTS
WIDTH = C4_START + c4.N_COUNTS

_INITIAL_CAPACITY = 1 << 14


@cache
def sentence_terminals() -> Table:
    """uint8[0x110000]: 1 where a character has Unicode's Sentence_Terminal property."""
    table = np.zeros(NUM_CODE_POINTS, np.uint8)
    everything = "".join(
        chr(point) for point in range(NUM_CODE_POINTS) if not 0xD800 <= point < 0xE000
    )
    table[[ord(char) for char in regex.findall(r"\p{Sentence_Terminal}", everything)]] = 1
    table.setflags(write=False)
    return table


@cache
def stop_word_hashes() -> Hashes:
    """The hashes of Gopher's stop words as tokens."""
    return np.array([tokens.hash_token(word) for word in STOP_WORDS], np.uint64)


@jit
def _count_tokens(
    count: int,
    hashes: Hashes,
    lengths: npt.NDArray[np.int32],
    kinds: Table,
    stops: Hashes,
    char_offsets: Offsets,
    row: npt.NDArray[np.int64],
) -> None:
    """Count the tokens of one document by kind, and add up their lengths in ``char_offsets``."""
    words = characters = alpha = 0
    found = 0
    total = 0
    for i in range(count):
        char_offsets[i] = total
        total += lengths[i]
        kind = kinds[i]
        if kind & tokens.IS_WORD:
            words += 1
            characters += lengths[i]
        if kind & tokens.HAS_ALPHA:
            alpha += 1
        if lengths[i] <= 4:  # the longest stop word
            for k in range(stops.size):
                if hashes[i] == stops[k]:
                    found |= 1 << k
    char_offsets[count] = total
    distinct = 0
    for k in range(stops.size):
        distinct += (found >> k) & 1
    row[N_TOKENS] = count
    row[N_WORDS] = words
    row[WORD_CHARACTERS] = characters
    row[N_ALPHA_TOKENS] = alpha
    row[DISTINCT_STOP_WORDS] = distinct


@jit
def _count_documents(
    offsets: Offsets,
    data: Bytes,
    classes: Table,
    terminals: Table,
    stops: Hashes,
    out: npt.NDArray[np.int64],
) -> None:
    """Fill int64[n, WIDTH] with the counts of n documents."""
    longest = 0
    for d in range(offsets.size - 1):
        longest = max(longest, offsets[d + 1] - offsets[d])
    line = np.empty(longest, np.uint8)
    capacity = _INITIAL_CAPACITY
    hashes, keys = np.empty(capacity, np.uint64), np.empty(capacity, np.uint64)
    lengths, kinds = np.empty(capacity, np.int32), np.empty(capacity, np.uint8)
    ends, ints = np.empty(capacity + 1, np.int64), np.empty((3, capacity), np.int32)
    slots = np.empty(gopher_repetition.table_size(capacity), np.int32)
    seen = np.empty(gopher_repetition.table_size(1024), np.uint64)
    for d in range(offsets.size - 1):
        start, end = offsets[d], offsets[d + 1]
        row = out[d]
        count = tokens.tokenize(data, start, end, classes, hashes, lengths, kinds)
        if count > capacity:
            capacity = 2 * count
            hashes, keys = np.empty(capacity, np.uint64), np.empty(capacity, np.uint64)
            lengths, kinds = np.empty(capacity, np.int32), np.empty(capacity, np.uint8)
            ends, ints = np.empty(capacity + 1, np.int64), np.empty((3, capacity), np.int32)
            slots = np.empty(gopher_repetition.table_size(capacity), np.int32)
            tokens.tokenize(data, start, end, classes, hashes, lengths, kinds)
        _count_tokens(count, hashes, lengths, kinds, stops, ends, row)
        gopher_repetition.ngram_repetition(
            hashes, ends, count, ints, slots, keys, row[NGRAMS_START:LINES_START]
        )
        breaks = lines.count_newlines(data, start, end)
        if gopher_repetition.table_size(breaks + 2) > seen.size:
            seen = np.empty(gopher_repetition.table_size(2 * breaks), np.uint64)
        counts = row[LINES_START:C4_START]
        lines.count_lines(data, start, end, breaks, classes, terminals, seen, counts)
        lines.count_paragraphs(data, start, end, breaks, classes, seen, counts)
        lines.count_bullets_and_ellipses(data, start, end, classes, counts)
        c4.count_c4_lines(data, start, end, classes, terminals, line, row[C4_START:])


def count_all(text: "pa.Array[Any] | pa.ChunkedArray[Any]") -> npt.NDArray[np.int64]:
    """Everything counted in n texts, int64[n, WIDTH]; the constants of this module name places."""
    offsets, data = utf8_buffers(text)
    out = np.zeros((offsets.size - 1, WIDTH), np.int64)
    _count_documents(offsets, data, char_tables()[0], sentence_terminals(), stop_word_hashes(), out)
    return out


def _safe_divide(
    numerator: npt.NDArray[np.int64], denominator: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """``part / whole``, 0 where the whole is 0."""
    return np.divide(numerator, denominator, out=np.zeros(numerator.size), where=denominator != 0)


def compute_signals(text: "pa.Array[Any] | pa.ChunkedArray[Any]") -> dict[str, npt.NDArray[Any]]:
    """The quality signals of n texts.

    Args:
        text: a string column; a null counts as empty text.

    Returns:
        For every name in `infra.schemas.signals.SIGNALS`, in its order, n values of its type.
    """
    row = count_all(text).T
    offsets, _ = utf8_buffers(text)
    tally = row[LINES_START:C4_START]
    rules = row[C4_START:]
    characters = tally[lines.CHARACTERS]
    unbroken = characters - tally[lines.NEWLINES]
    repetition, quality = "gopher_repetition", "gopher_quality"
    signals: dict[str, npt.NDArray[Any]] = {
        "words": row[N_WORDS],
        "characters": characters,
        "bytes": np.diff(offsets),
        f"{repetition}_dup_line_fraction": _safe_divide(
            tally[lines.NEWLINE_RUN_DUP_LINES], tally[lines.NEWLINE_RUN_LINES]
        ),
        f"{repetition}_dup_paragraph_fraction": _safe_divide(
            tally[lines.DUP_PARAGRAPHS], tally[lines.PARAGRAPHS]
        ),
        f"{repetition}_dup_line_char_fraction": _safe_divide(
            tally[lines.NEWLINE_RUN_DUP_CHARS], characters
        ),
        f"{repetition}_dup_paragraph_char_fraction": _safe_divide(
            tally[lines.PARAGRAPH_DUP_CHARS], characters
        ),
        **{
            f"{repetition}_{'top' if n in gopher_repetition.TOP_NGRAM_SIZES else 'dup'}_{n}gram_char_fraction": _safe_divide(
                row[NGRAMS_START + n - 2], characters
            )
            for n in gopher_repetition.TOP_NGRAM_SIZES + gopher_repetition.DUP_NGRAM_SIZES
        },
        f"{quality}_word_count": row[N_WORDS],
        f"{quality}_mean_word_length": _safe_divide(row[WORD_CHARACTERS], row[N_WORDS]),
        f"{quality}_hash_word_ratio": _safe_divide(tally[lines.HASH_SIGNS], row[N_TOKENS]),
        f"{quality}_ellipsis_word_ratio": _safe_divide(tally[lines.ELLIPSES], row[N_TOKENS]),
        f"{quality}_bullet_line_fraction": _safe_divide(
            tally[lines.SPLITLINES_BULLETS], tally[lines.SPLITLINES_LINES]
        ),
        f"{quality}_ellipsis_line_fraction": _safe_divide(
            tally[lines.SPLITLINES_ELLIPSES], tally[lines.SPLITLINES_LINES]
        ),
        f"{quality}_alpha_word_fraction": _safe_divide(row[N_ALPHA_TOKENS], row[N_TOKENS]),
        f"{quality}_stop_words": row[DISTINCT_STOP_WORDS],
        "c4_kept_line_fraction": _safe_divide(rules[c4.KEPT_LINES], rules[c4.LINES]),
        "c4_terminal_line_fraction": _safe_divide(rules[c4.TERMINAL_LINES], rules[c4.LINES]),
        "c4_sentences": rules[c4.SENTENCES],
        "c4_terminal_sentences": rules[c4.TERMINAL_SENTENCES],
        "c4_lorem_ipsum": rules[c4.LOREM_IPSUM] != 0,
        "c4_curly_brace": rules[c4.CURLY_BRACE] != 0,
        "fineweb_line_punct_fraction": _safe_divide(
            tally[lines.NONBLANK_TERMINAL], tally[lines.NONBLANK_LINES]
        ),
        "fineweb_short_line_fraction": _safe_divide(
            tally[lines.NONBLANK_SHORT], tally[lines.NONBLANK_LINES]
        ),
        "fineweb_dup_line_char_fraction": _safe_divide(tally[lines.NONBLANK_DUP_CHARS], unbroken),
        "fineweb_newline_word_ratio": _safe_divide(tally[lines.NEWLINES], row[N_TOKENS]),
    }
    return {name: signals[name] for name in SIGNALS}
