"""C4's line rules, applied without altering the text.

Raffel et al. 2020, https://jmlr.org/papers/v21/20-074.html, section 2.2.

C4 deletes lines and then filters the page by the sentences that remain. Here every line is tested
by the same rules in the same order, and what C4 would have kept is counted: the text is unchanged.

A sentence ends at a character with Unicode's Sentence_Terminal property and the next begins at the
next character that is neither white space nor punctuation. A full stop inside a token (``3.14``),
in an ellipsis or after a letter on its own (``J. S. Bach``, ``e.g.``) ends none, nor does an
ASCII terminal that a word character follows.
"""

import numpy as np
import numpy.typing as npt

from infra.compute.arrays import U8
from infra.compute.jit import jit
from infra.formats.arrow_text import Bytes, Offsets
from infra.formats.unicode_tables import (
    ALPHA,
    LINE_BREAK,
    PUNCT,
    SPACE,
    WORD,
    char_tables,
    decode_utf8,
)
from tasks.annotate.signals.families import SignalColumns
from tasks.annotate.signals.lines import sentence_terminals, strip_bounds
from tasks.annotate.signals.text_block import TextBlock, safe_divide

C4_COUNTS = np.dtype(
    [
        (name, np.int64)
        for name in (
            "lines",
            "kept_lines",
            "terminal_lines",
            "sentences",
            "terminal_sentences",
            "lorem_ipsum",
            "curly_brace",
        )
    ]
)

MAX_WORD_CHARS = 1000  # a line with a longer word is deleted
MIN_LINE_WORDS = 3

LOREM = np.frombuffer(b"lorem ipsum", dtype=np.uint8)
JAVASCRIPT = np.frombuffer(b"javascript", dtype=np.uint8)
CITATION_NEEDED = np.frombuffer(b"[citation needed]", dtype=np.uint8)
EDIT = np.frombuffer(b"[edit]", dtype=np.uint8)
# Phrases of notices that C4 removes.
TERMS_OF_USE = np.frombuffer(b"terms of use", dtype=np.uint8)
PRIVACY_POLICY = np.frombuffer(b"privacy policy", dtype=np.uint8)
COOKIE_POLICY = np.frombuffer(b"cookie policy", dtype=np.uint8)
USES_COOKIES = np.frombuffer(b"uses cookies", dtype=np.uint8)
USE_OF_COOKIES = np.frombuffer(b"use of cookies", dtype=np.uint8)
USE_COOKIES = np.frombuffer(b"use cookies", dtype=np.uint8)


@jit
def _phrase_at(line: Bytes, size: int, i: int, phrase: Bytes) -> bool:
    """Whether ``phrase`` is at byte ``i`` of the first ``size`` bytes of ``line``."""
    if i + phrase.size > size:
        return False
    k = 0
    while k < phrase.size and line[i + k] == phrase[k]:
        k += 1
    return k == phrase.size


@jit
def _policy_phrase_at(line: Bytes, size: int, i: int) -> bool:
    """Whether a phrase about terms, privacy or cookies is at byte ``i``."""
    byte = line[i]
    if byte == 0x74:
        return _phrase_at(line, size, i, TERMS_OF_USE)
    if byte == 0x70:
        return _phrase_at(line, size, i, PRIVACY_POLICY)
    if byte == 0x63:
        return _phrase_at(line, size, i, COOKIE_POLICY)
    if byte == 0x75:
        return (
            _phrase_at(line, size, i, USES_COOKIES)
            or _phrase_at(line, size, i, USE_OF_COOKIES)
            or _phrase_at(line, size, i, USE_COOKIES)
        )
    return False


@jit
def _skip_citation(data: Bytes, i: int, end: int) -> int:
    """The byte after a Wikipedia citation mark whose [ is at ``i``; ``i`` if there is none."""
    if _phrase_at(data, end, i, CITATION_NEEDED):
        return i + CITATION_NEEDED.size
    if _phrase_at(data, end, i, EDIT):
        return i + EDIT.size
    j = i + 1
    while j < end and 0x30 <= data[j] <= 0x39:
        j += 1
    return j + 1 if j < end and data[j] == 0x5D else i


@jit
def _clean_line(data: Bytes, start: int, end: int, line: Bytes) -> int:
    """Copy a line without citation marks, ASCII letters in lower case; return its bytes."""
    size = 0
    i = start
    while i < end:
        byte = data[i]
        if byte == 0x5B:
            after = _skip_citation(data, i, end)
            if after > i:
                i = after
                continue
        line[size] = byte + 32 if 0x41 <= byte <= 0x5A else byte
        size += 1
        i += 1
    return size


@jit
def _has_terminal_punctuation(line: Bytes, size: int) -> bool:
    """Whether a line ends in one of C4's terminal marks, and not in three full stops."""
    if size == 0:
        return False
    last = line[size - 1]
    if last == 0x2E:
        return not (size >= 3 and line[size - 2] == 0x2E and line[size - 3] == 0x2E)
    return last in (0x3F, 0x21, 0x22, 0x27)  # ? ! " '


@jit
def count_sentences(line: Bytes, size: int, classes: U8, terminals: U8) -> int:
    """The sentences in the first ``size`` bytes of ``line``; an unfinished one counts."""
    count = 0
    closed = True
    before = two_before = 0
    i = 0
    while i < size:
        point, i = decode_utf8(line, i)
        if terminals[point]:
            after = 0
            if i < size:
                after, _ = decode_utf8(line, i)
            ends = True
            if point < 0x80:
                ends = not classes[after] & WORD
                if point == 0x2E:
                    alone = (classes[before] & ALPHA) != 0 and not classes[two_before] & WORD
                    ends = ends and not alone and before != 0x2E and after != 0x2E
            closed = closed or ends
        elif closed and not classes[point] & (SPACE | PUNCT):
            count += 1
            closed = False
        two_before, before = before, point
    return count


@jit
def _count_document_lines(
    data: Bytes, start: int, end: int, classes: U8, terminals: U8, line: Bytes, row: np.void
) -> None:
    """Fill one row of `C4_COUNTS` for ``data[start:end]``; ``line`` is scratch for one line."""
    lines = kept_lines = terminal_lines = sentences = terminal_sentences = 0
    lorem_ipsum = curly_brace = False
    i = start
    while i < end:
        begin = i
        words = 0
        length = longest = 0
        stop = end
        while i < end:
            at = i
            point, i = decode_utf8(data, i)
            flags = classes[point]
            if flags & SPACE:
                length = 0
                if flags & LINE_BREAK:
                    stop = at
                    if point == 0x0D and i < end and data[i] == 0x0A:
                        i += 1
                    break
                continue
            words += length == 0
            length += 1
            longest = max(longest, length)
        lines += 1
        begin, stop = strip_bounds(data, begin, stop, classes)
        size = _clean_line(data, begin, stop, line)
        terminal = _has_terminal_punctuation(line, size)
        terminal_lines += terminal
        if longest > MAX_WORD_CHARS or words < MIN_LINE_WORDS:
            continue
        lorem = javascript = brace = notice = False
        for k in range(size):
            byte = line[k]
            if byte == 0x6C:
                lorem = lorem or _phrase_at(line, size, k, LOREM)
            elif byte == 0x6A:
                javascript = javascript or _phrase_at(line, size, k, JAVASCRIPT)
            elif byte == 0x7B:
                brace = True
            else:
                notice = notice or _policy_phrase_at(line, size, k)
        lorem_ipsum = lorem_ipsum or lorem
        if lorem or javascript:
            continue
        curly_brace = curly_brace or brace
        if brace or notice:
            continue
        count = count_sentences(line, size, classes, terminals)
        kept_lines += 1
        sentences += count
        if terminal:
            terminal_sentences += count
    row["lines"] = lines
    row["kept_lines"] = kept_lines
    row["terminal_lines"] = terminal_lines
    row["sentences"] = sentences
    row["terminal_sentences"] = terminal_sentences
    row["lorem_ipsum"] = lorem_ipsum
    row["curly_brace"] = curly_brace


@jit
def _count_lines(
    offsets: Offsets, data: Bytes, classes: U8, terminals: U8, out: npt.NDArray[np.void]
) -> None:
    longest = 0
    for d in range(offsets.size - 1):
        longest = max(longest, offsets[d + 1] - offsets[d])
    line = np.empty(longest, np.uint8)
    for d in range(offsets.size - 1):
        _count_document_lines(data, offsets[d], offsets[d + 1], classes, terminals, line, out[d])


def compute(texts: TextBlock) -> SignalColumns:
    """The family ``c4`` of `infra.schemas.signals`."""
    counts = np.zeros(texts.offsets.size - 1, C4_COUNTS)
    _count_lines(texts.offsets, texts.data, char_tables()[0], sentence_terminals(), counts)
    return {
        "c4_kept_line_fraction": safe_divide(counts["kept_lines"], counts["lines"]),
        "c4_terminal_line_fraction": safe_divide(counts["terminal_lines"], counts["lines"]),
        "c4_sentences": counts["sentences"],
        "c4_terminal_sentences": counts["terminal_sentences"],
        "c4_lorem_ipsum": counts["lorem_ipsum"] != 0,
        "c4_curly_brace": counts["curly_brace"] != 0,
    }
