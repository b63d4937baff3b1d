"""Word-level diff of two texts."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from views.documents.texts import sanitize_line

SpanKind = Literal["equal", "delete", "insert"]
EQUAL: SpanKind = "equal"
DELETE: SpanKind = "delete"
INSERT: SpanKind = "insert"

CONTEXT_WORDS = 6  # words of an equal run that are shown on each side of a difference
MAX_SHOWN = 60  # words of a difference that are shown
MAX_WORDS = 20_000  # words of either text that are compared, starting at the first difference
# A word is one character of a script without spaces, or a run of other characters.
_ALONE = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"(\s*)([{_ALONE}]|[^\s{_ALONE}]+)")


@dataclass(frozen=True)
class Word:
    """A word, and whether white space precedes it."""

    text: str
    leading_space: bool


@dataclass(frozen=True)
class DiffSpan:
    """A run of words that both texts have, or that only one has.

    Attributes:
        kind: ``equal``, ``delete`` (only in the first text) or ``insert`` (only in the second).
        text: the words; some in the middle are left out if ``truncated``.
        words: number of words of the run.
        leading_space: whether white space precedes the run.
        truncated: whether words were left out of ``text``.
    """

    kind: SpanKind
    text: str
    words: int
    leading_space: bool = True
    truncated: bool = False


def split_words(text: str) -> list[Word]:
    """Split a text into words; control characters are removed."""
    words = (Word(sanitize_line(word), bool(space)) for space, word in _WORD.findall(text))
    return [word for word in words if word.text]


def diff(
    old: str, new: str, *, context: int = CONTEXT_WORDS, max_shown: int | None = MAX_SHOWN
) -> list[DiffSpan]:
    """Compare two texts word by word; equal runs are shortened to their ends.

    White space is ignored: an empty list means that the words are equal. If the differing part is
    longer than `MAX_WORDS` words, only its beginning is compared, and a last span says how many
    words were not.

    Args:
        old: the text to start from.
        new: the text to arrive at.
        context: words of an equal run that are shown on each side of a difference.
        max_shown: words of a difference that are shown; ``None`` shows all.
    """
    left, right = split_words(old), split_words(new)
    a, b = [word.text for word in left], [word.text for word in right]
    if a == b:
        return []
    head = _common_prefix_length(a, b)
    tail = _common_prefix_length(a[head:][::-1], b[head:][::-1])
    a_end, b_end = len(a) - tail, len(b) - tail
    rest = max(a_end, b_end) - head - MAX_WORDS
    if rest > 0:
        a_end, b_end = min(a_end, head + MAX_WORDS), min(b_end, head + MAX_WORDS)
    runs: list[tuple[SpanKind, Sequence[Word]]] = [(EQUAL, right[:head])]

    def equal_run(a0: int, b0: int, b1: int) -> list[Word]:
        if b0 == b1:
            return []
        first, *others = right[b0:b1]
        # White space may precede the run in one of the texts only.
        return [Word(first.text, first.leading_space or left[a0].leading_space), *others]

    # autojunk: very frequent words do not start a match, but matches extend over them.
    matcher = SequenceMatcher(None, a[head:a_end], b[head:b_end], autojunk=True)
    for kind, a0, a1, b0, b1 in matcher.get_opcodes():
        if kind == "equal":
            runs.append((EQUAL, equal_run(head + a0, head + b0, head + b1)))
        else:
            runs += [(DELETE, left[head + a0 : head + a1]), (INSERT, right[head + b0 : head + b1])]
    if rest <= 0:
        runs.append((EQUAL, equal_run(a_end, b_end, len(b))))
    runs = [(kind, words) for kind, words in runs if words]
    spans = list(_iter_spans(runs, context, max_shown))
    if rest > 0:
        message = f"… ({rest + tail:,} words were not compared)"
        spans.append(DiffSpan(EQUAL, message, rest + tail, truncated=True))
    return spans


def _common_prefix_length(a: Sequence[str], b: Sequence[str]) -> int:
    """Count the words that two texts have in common at the beginning."""
    length = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        length += 1
    return length


def _iter_spans(
    runs: Sequence[tuple[SpanKind, Sequence[Word]]], context: int, max_shown: int | None
) -> Iterator[DiffSpan]:
    for index, (kind, words) in enumerate(runs):
        if kind == EQUAL:
            before = 0 if index == 0 else context
            after = 0 if index == len(runs) - 1 else context
            yield _make_span(kind, words, before, after)
        elif max_shown is not None and len(words) > max_shown:
            yield _make_span(kind, words, 2 * max_shown // 3, max_shown // 3)
        else:
            yield _make_span(kind, words, len(words), 0)


def _make_span(kind: SpanKind, words: Sequence[Word], n_head: int, n_tail: int) -> DiffSpan:
    space = words[0].leading_space
    if len(words) <= n_head + n_tail + 1:  # leaving out one word saves nothing
        return DiffSpan(kind, join_words(words), len(words), space)
    left_out = f"({len(words) - n_head - n_tail:,} words)"
    ends = [join_words(words[:n_head]), left_out, join_words(words[len(words) - n_tail :])]
    return DiffSpan(kind, " … ".join(ends).strip(), len(words), space, truncated=True)


def join_words(words: Sequence[Word]) -> str:
    """Join words to a text of one line."""
    spaced = (f" {w.text}" if w.leading_space and i else w.text for i, w in enumerate(words))
    return "".join(spaced)
