"""Plain-text books: paragraphs from hard-wrapped lines, verse and tables unchanged."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

# A line is full if the next line's first word would have extended it past this fraction of the width:
# greedy filling, as editors wrap prose, makes nearly every line full, and verse hardly any. Before
# a line that begins with a small letter, and in a book that is not verse, `SHORT_LINE_FRACTION` is
# enough.
FULL_LINE_FRACTION = 0.9

# A block is prose if at least this fraction of its lines, the last one excepted, are full.
PROSE_MIN_FULL_FRACTION = 0.75

# A line that would stay below this fraction of the width ends a line even inside prose.
SHORT_LINE_FRACTION = 0.6

# A book in which more than this fraction of continuation lines begin with a capital is verse.
VERSE_CAPITAL_FRACTION = 0.6

# A typical line length, in columns, between these means that the lines are hard-wrapped.
MAX_WRAP_WIDTH, MIN_WRAP_WIDTH = 120, 30

_WIDE = re.compile(
    "[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60]"
)
_NO_WORD_SPACES = re.compile("[\u2e80-\u312f\u31f0-\ua4cf\uf900-\ufaff\uff00-\uff60]")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


@dataclass(frozen=True)
class LineBlock:
    """Consecutive lines that are not blank, without trailing space."""

    lines: tuple[str, ...]


def split_blocks(lines: Sequence[str]) -> list[LineBlock]:
    """Split lines into blocks at blank lines; remove a margin common to all lines."""
    clean = [line.expandtabs(8).rstrip() for line in lines]
    indents = Counter(len(line) - len(line.lstrip(" ")) for line in clean if line)
    margin = 0
    if indents:
        common, count = indents.most_common(1)[0]
        if count > 0.5 * indents.total() and all(indent >= common for indent in indents):
            margin = common
    blocks: list[LineBlock] = []
    current: list[str] = []
    for line in clean:
        if line.strip():
            current.append(line[margin:])
        elif current:
            blocks.append(LineBlock(tuple(current)))
            current = []
    if current:
        blocks.append(LineBlock(tuple(current)))
    return blocks


def display_width(text: str) -> int:
    """The width of a text in columns: East Asian wide characters count two."""
    return len(text) if text.isascii() else len(text) + len(_WIDE.findall(text))


class WrapModel:
    """How the lines of one book were wrapped, estimated from all of its blocks."""

    def __init__(self, blocks: Sequence[LineBlock]) -> None:
        self._blocks = blocks
        lengths: list[int] = []
        capitals = continuations = 0
        for block in blocks:
            lengths.extend(
                display_width(line) for line in block.lines[:-1] if not line[0].isspace()
            )
            for line in block.lines[1:]:
                first = next((c for c in line if c.isalpha()), "")
                continuations += 1
                capitals += first.isupper()
        lengths.sort()
        usual = lengths[int(0.95 * (len(lengths) - 1))] if lengths else 0
        self.width = usual if MIN_WRAP_WIDTH <= usual <= MAX_WRAP_WIDTH else 0
        self.is_verse = continuations > 0 and capitals > VERSE_CAPITAL_FRACTION * continuations

    @cached_property
    def _word_counts(self) -> Counter[str]:
        """How often each word occurs, to decide whether a word split at a line's end is hyphenated."""
        text = "\n".join(line for block in self._blocks for line in block.lines).lower()
        words = Counter(_WORD.findall(text.replace("-\n", " \n")))
        for cut in re.finditer("-\n", text):  # halves of split words are not words
            before = _WORD.findall(text, max(0, cut.start() - 40), cut.start())
            after = _WORD.findall(text, cut.end(), cut.end() + 40)
            words.subtract((*before[-1:], *after[:1]))
        return words

    def unwrap(self, block: LineBlock) -> str:
        """A block as text: a prose paragraph is one line, other blocks keep their lines.

        A paragraph that begins with an indented line inside the block is set apart by a blank
        line. A block whose lines are all indented (quoted verse, tables) is left as it is.
        """
        lines = block.lines
        if not self.width or len(lines) == 1 or not self._is_prose(lines):
            return "\n".join(lines)
        hanging = _has_hanging_indent(lines)
        paragraphs = [lines[0].strip()]
        separators = [""]
        for before, line in pairwise(lines):
            if _starts_paragraph(before, line) and not hanging:
                separators.append("\n\n")
                paragraphs.append(line.strip())
            elif self._filled_width(before, line) < SHORT_LINE_FRACTION * self.width:
                separators.append("\n")
                paragraphs.append(line.strip())
            else:
                paragraphs[-1] = self._join_lines(paragraphs[-1], line.strip())
        return "".join(part for pair in zip(separators, paragraphs, strict=True) for part in pair)

    def _filled_width(self, line: str, following: str) -> int:
        """The length of the line with the first word of the next line appended."""
        return display_width(line) + 1 + display_width(_first_word(following))

    def _is_prose(self, lines: Sequence[str]) -> bool:
        if all(line[0].isspace() for line in lines):
            return False
        pairs = [
            pair
            for pair in pairwise(lines)
            if not _starts_paragraph(*pair)
            or _has_hanging_indent(lines)  # a paragraph's last line may be short
        ]
        lower = [_continues_sentence(line) for _, line in pairs]
        full = sum(
            self._filled_width(*pair)
            > (SHORT_LINE_FRACTION if goes_on and not self.is_verse else FULL_LINE_FRACTION)
            * self.width
            for pair, goes_on in zip(pairs, lower, strict=True)
        )
        if full < PROSE_MIN_FULL_FRACTION * len(pairs):
            return False
        return not self.is_verse or 2 * sum(lower) >= len(pairs)

    def _join_lines(self, left: str, right: str) -> str:
        if left.endswith(("--", "—")) or right.startswith("--"):
            return left + right
        if left.endswith("-") and left[-2:-1].isalpha() and right[:1].isalpha():
            return self._join_hyphenated(left, right)
        if _NO_WORD_SPACES.match(left[-1:]) and _NO_WORD_SPACES.match(right[:1]):
            return left + right
        return f"{left} {right}"

    def _join_hyphenated(self, left: str, right: str) -> str:
        """Drop a hyphen at a line's end if the book has the word without a hyphen elsewhere."""
        head, tail = _WORD.findall(left[:-1])[-1].lower(), _WORD.findall(right)[0].lower()
        joined, hyphenated = self._word_counts[head + tail], self._word_counts[f"{head}-{tail}"]
        if joined > hyphenated:
            return left[:-1] + right
        if (
            hyphenated
            or right[:1].isupper()
            or (head in self._word_counts and tail in self._word_counts)
        ):
            return left + right
        return left[:-1] + right  # neither half is a word of the book: a split word


def _has_hanging_indent(lines: Sequence[str]) -> bool:
    """Whether all lines but the first are indented, as in plays and lists of terms."""
    return not lines[0][0].isspace() and all(line[0].isspace() for line in lines[1:])


def _starts_paragraph(previous: str, line: str) -> bool:
    return line[0].isspace() and not previous[0].isspace()


def _continues_sentence(line: str) -> bool:
    """Whether a line begins inside a sentence: with a small letter."""
    return line.lstrip("\"'([“‘—-_ ")[:1].islower()


def _first_word(line: str) -> str:
    word = line.split(None, 1)[0] if line.strip() else ""
    # Text without spaces wraps anywhere: only one character would have had to fit.
    return word[:1] if _NO_WORD_SPACES.match(word) else word
