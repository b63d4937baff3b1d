"""What one text has and another has not, word by word."""

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
MAX_WORDS = 20_000  # words of either text that are compared, from the first difference on
# One character of a script without spaces, or a run of others.
_ALONE = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"(\s*)([{_ALONE}]|[^\s{_ALONE}]+)")


@dataclass(frozen=True)
class Word:
    """A word, and whether white space stands before it."""

    text: str
    leading_space: bool


@dataclass(frozen=True)
class DiffSpan:
    """A run of words that both texts have, or that only one has.

    Attributes:
        kind: ``equal``, ``delete`` (only the first text has it) or ``insert`` (only the second).
        text: the words, shortened in the middle where `truncated` says so.
        words: how many there are.
        leading_space: whether white space stands before the run.
        truncated: whether words were left out of ``text``.
    """

    kind: SpanKind
    text: str
    words: int
    leading_space: bool = True
    truncated: bool = False


def split_words(text: str) -> list[Word]:
    """The words of a text as they stand there, free of characters that a terminal would obey."""
    found = (Word(sanitize_line(word), bool(space)) for space, word in _WORD.findall(text))
    return [word for word in found if word.text]


def diff(old: str, new: str, *, max_shown: int | None = MAX_SHOWN) -> list[DiffSpan]:
    """How to get from one text to the other: equal runs shortened to their ends.

    White space does not count. An empty list says that there is no other difference. Of texts that
    differ over a long stretch, `MAX_WORDS` words from the first difference on are compared; a last piece
    says how many were not.

    Args:
        old: the text to start from.
        new: the text to arrive at.
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

    # What the first text begins with may have white space before it in the second, and the reverse.
    def both(a0: int, b0: int, b1: int) -> list[Word]:
        found = right[b0:b1]
        return (
            [Word(found[0].text, found[0].leading_space or left[a0].leading_space), *found[1:]]
            if found
            else []
        )

    # Words that are everywhere anchor nothing (autojunk), but matches extend over them.
    matcher = SequenceMatcher(None, a[head:a_end], b[head:b_end], autojunk=True)
    for kind, a0, a1, b0, b1 in matcher.get_opcodes():
        if kind == "equal":
            runs.append((EQUAL, both(head + a0, head + b0, head + b1)))
        else:
            runs += [(DELETE, left[head + a0 : head + a1]), (INSERT, right[head + b0 : head + b1])]
    if rest <= 0:
        runs.append((EQUAL, both(a_end, b_end, len(b))))
    found = list(_iter_spans([(kind, words) for kind, words in runs if words], max_shown))
    if rest > 0:
        said = f"… ({rest + tail:,} words were not compared)"
        found.append(DiffSpan(EQUAL, said, rest + tail, truncated=True))
    return found


def _common_prefix_length(a: Sequence[str], b: Sequence[str]) -> int:
    """How many words two texts begin with in common."""
    same = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        same += 1
    return same


def _iter_spans(
    runs: Sequence[tuple[SpanKind, Sequence[Word]]], max_shown: int | None
) -> Iterator[DiffSpan]:
    for place, (kind, words) in enumerate(runs):
        if kind == EQUAL:
            before = 0 if place == 0 else CONTEXT_WORDS
            after = 0 if place == len(runs) - 1 else CONTEXT_WORDS
            yield _make_span(kind, words, before, after)
        elif max_shown is not None and len(words) > max_shown:
            yield _make_span(kind, words, 2 * max_shown // 3, max_shown // 3)
        else:
            yield _make_span(kind, words, len(words), 0)


def _make_span(kind: SpanKind, words: Sequence[Word], n_head: int, n_tail: int) -> DiffSpan:
    spaced = words[0].leading_space
    if len(words) <= n_head + n_tail + 1:  # leaving out one word saves nothing
        return DiffSpan(kind, join_words(words), len(words), spaced)
    left_out = f"({len(words) - n_head - n_tail:,} words)"
    ends = [join_words(words[:n_head]), left_out, join_words(words[len(words) - n_tail :])]
    return DiffSpan(kind, " … ".join(ends).strip(), len(words), spaced, truncated=True)


def join_words(words: Sequence[Word]) -> str:
    """Words as a text of one line."""
    return "".join(f" {w.text}" if w.leading_space and k else w.text for k, w in enumerate(words))
