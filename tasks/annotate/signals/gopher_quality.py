"""All quality signals of a column of texts, from one walk per family over its UTF-8 buffer."""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import regex

from infra.compute.jit import kernel
from infra.formats.arrow_text import Offsets, utf8
from infra.formats.unicode_tables import SIZE, tables
from infra.schemas.signals import SIGNALS
from tasks.annotate.signals import c4, gopher_repetition, lines, tokens
from tasks.annotate.signals.tokens import Bytes, Hashes, Table

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")  # Gopher

# Places of the token counts in a row of `_measure`, before those of the other families.
TOKENS, WORDS, WORD_CHARACTERS, ALPHA_TOKENS, STOP = 0, 1, 2, 3, 4
NGRAMS = 5
LINES = NGRAMS + gopher_repetition.LONGEST - 1
C4 = LINES + lines.COUNTS
WIDTH = C4 + c4.COUNTS

_FIRST_TOKENS = 1 << 14


@cache
def terminals() -> Table:
    """uint8[0x110000]: 1 where a character has Unicode's Sentence_Terminal property."""
    table = np.zeros(SIZE, np.uint8)
    everything = "".join(chr(point) for point in range(SIZE) if not 0xD800 <= point < 0xE000)
    table[[ord(char) for char in regex.findall(r"\p{Sentence_Terminal}", everything)]] = 1
    table.setflags(write=False)
    return table


@cache
def stop_hashes() -> Hashes:
    """The hashes of Gopher's stop words as tokens."""
    return np.array([tokens.token_hash(word) for word in STOP_WORDS], np.uint64)


@kernel
def _words(
    count: int,
    hashes: Hashes,
    lengths: npt.NDArray[np.int32],
    kinds: Table,
    stops: Hashes,
    ends: Offsets,
    row: npt.NDArray[np.int64],
) -> None:
    """Count the tokens of one document by kind, and add up their lengths in ``ends``."""
    words = characters = alpha = 0
    found = 0
    total = 0
    for i in range(count):
        ends[i] = total
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
    ends[count] = total
    distinct = 0
    for k in range(stops.size):
        distinct += (found >> k) & 1
    row[TOKENS] = count
    row[WORDS] = words
    row[WORD_CHARACTERS] = characters
    row[ALPHA_TOKENS] = alpha
    row[STOP] = distinct


@kernel
def _measure(
    offsets: Offsets,
    data: Bytes,
    classes: Table,
    ends_sentence: Table,
    stops: Hashes,
    out: npt.NDArray[np.int64],
) -> None:
    """Fill int64[n, WIDTH] with the counts of n documents."""
    longest = 0
    for d in range(offsets.size - 1):
        longest = max(longest, offsets[d + 1] - offsets[d])
    line = np.empty(longest, np.uint8)
    capacity = _FIRST_TOKENS
    hashes, keys = np.empty(capacity, np.uint64), np.empty(capacity, np.uint64)
    lengths, kinds = np.empty(capacity, np.int32), np.empty(capacity, np.uint8)
    ends, ints = np.empty(capacity + 1, np.int64), np.empty((3, capacity), np.int32)
    slots = np.empty(gopher_repetition.table_size(capacity), np.int32)
    seen = np.empty(gopher_repetition.table_size(1024), np.uint64)
    for d in range(offsets.size - 1):
        start, end = offsets[d], offsets[d + 1]
        row = out[d]
        count = tokens.tokenise(data, start, end, classes, hashes, lengths, kinds)
        if count > capacity:
            capacity = 2 * count
            hashes, keys = np.empty(capacity, np.uint64), np.empty(capacity, np.uint64)
            lengths, kinds = np.empty(capacity, np.int32), np.empty(capacity, np.uint8)
            ends, ints = np.empty(capacity + 1, np.int64), np.empty((3, capacity), np.int32)
            slots = np.empty(gopher_repetition.table_size(capacity), np.int32)
            tokens.tokenise(data, start, end, classes, hashes, lengths, kinds)
        _words(count, hashes, lengths, kinds, stops, ends, row)
        gopher_repetition.repetition(hashes, ends, count, ints, slots, keys, row[NGRAMS:LINES])
        breaks = lines.newlines(data, start, end)
        if gopher_repetition.table_size(breaks + 2) > seen.size:
            seen = np.empty(gopher_repetition.table_size(2 * breaks), np.uint64)
        counts = row[LINES:C4]
        lines.lines(data, start, end, breaks, classes, ends_sentence, seen, counts)
        lines.paragraphs(data, start, end, breaks, classes, seen, counts)
        lines.endings(data, start, end, classes, counts)
        c4.judge(data, start, end, classes, ends_sentence, line, row[C4:])


def counts(text: "pa.Array[Any] | pa.ChunkedArray[Any]") -> npt.NDArray[np.int64]:
    """Everything counted in n texts, int64[n, WIDTH]; the constants of this module name places."""
    offsets, data = utf8(text)
    out = np.zeros((offsets.size - 1, WIDTH), np.int64)
    _measure(offsets, data, tables()[0], terminals(), stop_hashes(), out)
    return out


def _over(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """``part / whole``, 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(part.size), where=whole != 0)


def measure(text: "pa.Array[Any] | pa.ChunkedArray[Any]") -> dict[str, npt.NDArray[Any]]:
    """The quality signals of n texts.

    Args:
        text: a string column; a null counts as empty text.

    Returns:
        For every name in `infra.schemas.signals.SIGNALS`, in its order, n values of its type.
    """
    row = counts(text).T
    offsets, _ = utf8(text)
    tally = row[LINES:C4]
    rules = row[C4:]
    characters = tally[lines.CHARACTERS]
    unbroken = characters - tally[lines.NEWLINES]
    repetition, quality = "gopher_repetition", "gopher_quality"
    signals: dict[str, npt.NDArray[Any]] = {
        "words": row[WORDS],
        "characters": characters,
        "bytes": np.diff(offsets),
        f"{repetition}_dup_line_fraction": _over(tally[lines.R_DUP_LINES], tally[lines.R_LINES]),
        f"{repetition}_dup_paragraph_fraction": _over(
            tally[lines.DUP_PARAGRAPHS], tally[lines.PARAGRAPHS]
        ),
        f"{repetition}_dup_line_char_fraction": _over(tally[lines.R_DUP_CHARS], characters),
        f"{repetition}_dup_paragraph_char_fraction": _over(
            tally[lines.PARAGRAPH_DUP_CHARS], characters
        ),
        **{
            f"{repetition}_{'top' if n in gopher_repetition.TOP else 'dup'}_{n}gram_char_fraction": _over(
                row[NGRAMS + n - 2], characters
            )
            for n in gopher_repetition.TOP + gopher_repetition.DUPLICATED
        },
        f"{quality}_word_count": row[WORDS],
        f"{quality}_mean_word_length": _over(row[WORD_CHARACTERS], row[WORDS]),
        f"{quality}_hash_word_ratio": _over(tally[lines.HASHES], row[TOKENS]),
        f"{quality}_ellipsis_word_ratio": _over(tally[lines.ELLIPSES], row[TOKENS]),
        f"{quality}_bullet_line_fraction": _over(tally[lines.S_BULLETS], tally[lines.S_LINES]),
        f"{quality}_ellipsis_line_fraction": _over(tally[lines.S_ELLIPSES], tally[lines.S_LINES]),
        f"{quality}_alpha_word_fraction": _over(row[ALPHA_TOKENS], row[TOKENS]),
        f"{quality}_stop_words": row[STOP],
        "c4_kept_line_fraction": _over(rules[c4.KEPT_LINES], rules[c4.LINES]),
        "c4_terminal_line_fraction": _over(rules[c4.TERMINAL_LINES], rules[c4.LINES]),
        "c4_sentences": rules[c4.SENTENCES],
        "c4_terminal_sentences": rules[c4.TERMINAL_SENTENCES],
        "c4_lorem_ipsum": rules[c4.LOREM_IPSUM] != 0,
        "c4_curly_brace": rules[c4.CURLY_BRACE] != 0,
        "fineweb_line_punct_fraction": _over(tally[lines.N_TERMINAL], tally[lines.N_LINES]),
        "fineweb_short_line_fraction": _over(tally[lines.N_SHORT], tally[lines.N_LINES]),
        "fineweb_dup_line_char_fraction": _over(tally[lines.N_DUP_CHARS], unbroken),
        "fineweb_newline_word_ratio": _over(tally[lines.NEWLINES], row[TOKENS]),
    }
    return {name: signals[name] for name in SIGNALS}
