"""What one text has and another has not, word by word."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from views.documents.texts import one_line

Kind = Literal["equal", "gone", "new"]
EQUAL: Kind = "equal"
GONE: Kind = "gone"
NEW: Kind = "new"

CONTEXT = 6  # words of an equal run that are shown on each side of a difference
LONGEST = 60  # words of a difference that are shown
MOST = 20_000  # words of either text that are compared, from the first difference on
# One character of a script without spaces, or a run of others.
_ALONE = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"(\s*)([{_ALONE}]|[^\s{_ALONE}]+)")


@dataclass(frozen=True)
class Word:
    """A word, and whether white space stands before it."""

    text: str
    spaced: bool


@dataclass(frozen=True)
class Piece:
    """A run of words that both texts have, or that only one has.

    Attributes:
        kind: ``equal``, ``gone`` (only the first text has it) or ``new`` (only the second).
        text: the words, shortened in the middle where `shortened` says so.
        words: how many there are.
        spaced: whether white space stands before the run.
        shortened: whether words were left out of ``text``.
    """

    kind: Kind
    text: str
    words: int
    spaced: bool = True
    shortened: bool = False


def split(text: str) -> list[Word]:
    """The words of a text as they stand there, free of characters that a terminal would obey."""
    found = (Word(one_line(word), bool(space)) for space, word in _WORD.findall(text))
    return [word for word in found if word.text]


def diff(one: str, other: str, *, longest: int | None = LONGEST) -> list[Piece]:
    """How to get from one text to the other: equal runs shortened to their ends.

    White space does not count. An empty list says that there is no other difference. Of texts that
    differ over a long stretch, `MOST` words from the first difference on are compared; a last piece
    says how many were not.

    Args:
        one: the text to start from.
        other: the text to arrive at.
        longest: words of a difference that are shown; ``None`` shows all.
    """
    left, right = split(one), split(other)
    a, b = [word.text for word in left], [word.text for word in right]
    if a == b:
        return []
    head = _common(a, b)
    tail = _common(a[head:][::-1], b[head:][::-1])
    a_end, b_end = len(a) - tail, len(b) - tail
    rest = max(a_end, b_end) - head - MOST
    if rest > 0:
        a_end, b_end = min(a_end, head + MOST), min(b_end, head + MOST)
    runs: list[tuple[Kind, Sequence[Word]]] = [(EQUAL, right[:head])]

    # What the first text begins with may have white space before it in the second, and the reverse.
    def both(a0: int, b0: int, b1: int) -> list[Word]:
        found = right[b0:b1]
        return (
            [Word(found[0].text, found[0].spaced or left[a0].spaced), *found[1:]] if found else []
        )

    # Words that are everywhere anchor nothing (autojunk), but matches extend over them.
    matcher = SequenceMatcher(None, a[head:a_end], b[head:b_end], autojunk=True)
    for kind, a0, a1, b0, b1 in matcher.get_opcodes():
        if kind == "equal":
            runs.append((EQUAL, both(head + a0, head + b0, head + b1)))
        else:
            runs += [(GONE, left[head + a0 : head + a1]), (NEW, right[head + b0 : head + b1])]
    if rest <= 0:
        runs.append((EQUAL, both(a_end, b_end, len(b))))
    found = list(_pieces([(kind, words) for kind, words in runs if words], longest))
    if rest > 0:
        said = f"… ({rest + tail:,} words were not compared)"
        found.append(Piece(EQUAL, said, rest + tail, shortened=True))
    return found


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """How many words two texts begin with in common."""
    same = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        same += 1
    return same


def _pieces(runs: Sequence[tuple[Kind, Sequence[Word]]], longest: int | None) -> Iterator[Piece]:
    for place, (kind, words) in enumerate(runs):
        if kind == EQUAL:
            before = 0 if place == 0 else CONTEXT
            after = 0 if place == len(runs) - 1 else CONTEXT
            yield _piece(kind, words, before, after)
        elif longest is not None and len(words) > longest:
            yield _piece(kind, words, 2 * longest // 3, longest // 3)
        else:
            yield _piece(kind, words, len(words), 0)


def _piece(kind: Kind, words: Sequence[Word], first: int, last: int) -> Piece:
    spaced = words[0].spaced
    if len(words) <= first + last + 1:  # leaving out one word saves nothing
        return Piece(kind, joined(words), len(words), spaced)
    left_out = f"({len(words) - first - last:,} words)"
    ends = [joined(words[:first]), left_out, joined(words[len(words) - last :])]
    return Piece(kind, " … ".join(ends).strip(), len(words), spaced, shortened=True)


def joined(words: Sequence[Word]) -> str:
    """Words as a text of one line."""
    return "".join(f" {w.text}" if w.spaced and k else w.text for k, w in enumerate(words))
