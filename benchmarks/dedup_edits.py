"""Edits by which a duplicate differs from its original, each with a strength.

An edit takes a text, a random generator, the fraction of the text's word 5-grams that it should break,
and a stock of other real text to take words from. It gives the two texts of a pair: most leave the
first as it is. All is a function of its arguments: the same seed makes the same text.
"""

import random
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

NGRAM = 5
MAX_RUN_WORDS = 12  # words inserted or deleted at one position
_WORD = re.compile(r"\w+")
_SENTENCE = re.compile(r"(?<=[.!?;:])\s+(?=\S)")
_PARAGRAPH = re.compile(r"\n\s*\n")

Pair = tuple[str, str]


@dataclass(frozen=True)
class Stock:
    """Real text that occurs in no document of the corpus.

    Attributes:
        words: words in running order.
    """

    words: Sequence[str]

    def run(self, rng: random.Random, count: int) -> list[str]:
        """Consecutive words."""
        start = rng.randrange(max(1, len(self.words) - count))
        return list(self.words[start : start + count])


Edit = Callable[[str, random.Random, float, Stock], Pair]


def _edit_positions(text: str, rng: random.Random, broken: float, each: float) -> list[int]:
    """Word numbers to edit, in order, when one edit breaks ``each`` shingles."""
    count = len(_WORD.findall(text))
    wanted = min(count, max(1, round(broken * count / each)))
    return sorted(rng.sample(range(count), wanted))


def _replace(text: str, changes: dict[int, tuple[int, str]]) -> str:
    """Replace runs of words: word index -> (number of words to remove, replacement)."""
    spans = [match.span() for match in _WORD.finditer(text)]
    out, at = [], 0
    for number, (taken, instead) in sorted(changes.items()):
        start = spans[number][0]
        if start < at:
            continue  # inside a run that is already removed
        end = spans[min(number + taken, len(spans)) - 1][1] if taken else start
        out += [text[at:start], instead]
        at = end
    return "".join([*out, text[at:]])


def substitutions(text: str, rng: random.Random, broken: float, stock: Stock) -> Pair:
    """Replace single words."""
    positions = _edit_positions(text, rng, broken, NGRAM)
    return text, _replace(text, {position: (1, stock.run(rng, 1)[0]) for position in positions})


def insertions(text: str, rng: random.Random, broken: float, stock: Stock) -> Pair:
    """Insert runs of words of other text."""
    # A run of r words adds r + 4 shingles and breaks 4: as much Jaccard as (r + 8) / 2 broken ones.
    positions = _edit_positions(text, rng, broken, (MAX_RUN_WORDS / 2 + 8) / 2)
    runs = {position: stock.run(rng, rng.randint(1, MAX_RUN_WORDS)) for position in positions}
    return text, _replace(
        text, {position: (0, " ".join(run) + " ") for position, run in runs.items()}
    )


def deletions(text: str, rng: random.Random, broken: float, stock: Stock) -> Pair:  # noqa: ARG001
    """Delete runs of words."""
    positions = _edit_positions(text, rng, broken, (MAX_RUN_WORDS / 2 + 8) / 2)
    return text, _replace(
        text, {position: (rng.randint(1, MAX_RUN_WORDS), "") for position in positions}
    )


def _shuffle(parts: list[str], rng: random.Random, count: int) -> list[str]:
    """Return the parts with ``count`` of them rotated among their positions."""
    chosen = rng.sample(range(len(parts)), min(len(parts), count))
    moved = list(parts)
    for position, source in zip(chosen, chosen[1:] + chosen[:1], strict=True):
        moved[position] = parts[source]
    return moved


def sentences_moved(text: str, rng: random.Random, broken: float, stock: Stock) -> Pair:  # noqa: ARG001
    """Reorder sentences."""
    parts = _SENTENCE.split(text)
    wanted = round(broken * len(_WORD.findall(text)) / (2 * (NGRAM - 1)))
    return text, " ".join(_shuffle(parts, rng, max(2, wanted)))


def paragraphs_moved(text: str, rng: random.Random, broken: float, stock: Stock) -> Pair:  # noqa: ARG001
    """Reorder paragraphs."""
    parts = _PARAGRAPH.split(text)
    wanted = round(broken * len(_WORD.findall(text)) / (2 * (NGRAM - 1)))
    return text, "\n\n".join(_shuffle(parts, rng, max(2, wanted)))


def boilerplate(text: str, rng: random.Random, broken: float, stock: Stock) -> Pair:
    """Equal cores with different text above and below, as two sites that show the same article."""
    extra = max(4, round(2 * broken / (1 - broken) * len(_WORD.findall(text)) / 4))
    above, below = (" ".join(stock.run(rng, extra)) for _ in range(2))
    over, under = (" ".join(stock.run(rng, extra)) for _ in range(2))
    return f"{above}\n\n{text}\n\n{below}", f"{over}\n\n{text}\n\n{under}"


def excerpt(text: str, rng: random.Random, broken: float, stock: Stock) -> Pair:  # noqa: ARG001
    """Truncate the text, as feeds and archives do."""
    spans = [match.end() for match in _WORD.finditer(text)]
    # Of n shingles k remain: J = k / n, and broken = (1 - J) / (1 + J).
    keep = round(len(spans) * (1 - broken) / (1 + broken))
    return text, text[: spans[max(NGRAM, keep) - 1]]


_PUNCTUATION = str.maketrans(
    {
        "'": "’",
        "-": "‐",
        ",": "，",
        ".": "．",
        ":": "：",
        ";": "；",
        "?": "？",
        "!": "！",
        "(": "（",
        ")": "）",
        "/": "／",
    }
)


def punctuation(text: str, rng: random.Random, broken: float, stock: Stock) -> Pair:  # noqa: ARG001
    """Typographic quotes and dashes for plain ones; no word changes, so the Jaccard similarity is 1."""
    curly = re.sub(r'"([^"\n]*)"', r"“\1”", text).replace("--", "—").replace("...", "…")
    return text, curly.translate(_PUNCTUATION)


def rewrapped(text: str, rng: random.Random, broken: float, stock: Stock) -> Pair:  # noqa: ARG001
    """Change line breaks and capitals: an exact duplicate after normalization."""
    paragraphs = [" ".join(part.split()) for part in _PARAGRAPH.split(text)]
    filled = [
        textwrap.fill(part, rng.randint(50, 90), break_long_words=False, break_on_hyphens=False)
        for part in paragraphs
    ]
    # Outside ASCII, capitals are not always one character for one.
    swapped = "".join(c.swapcase() if c.isascii() else c for c in "\n\n".join(filled))
    return text, swapped


_MISREAD = {
    "rn": "m", "m": "rn", "l": "1", "I": "l", "O": "0", "e": "c", "c": "e", "h": "b",
    "u": "ii", "cl": "d", "d": "cl", "vv": "w", "w": "vv", "S": "5", "B": "8", "a": "o",
}  # fmt: skip
_MISREADABLE = re.compile("|".join(sorted(_MISREAD, key=len, reverse=True)))


def ocr(text: str, rng: random.Random, broken: float, stock: Stock) -> Pair:  # noqa: ARG001
    """Misread characters, joined and split words, as in a second scan."""
    words = _WORD.findall(text)
    changes = {}
    for position in _edit_positions(text, rng, broken, NGRAM):
        word = words[position]
        kinds = list(_MISREADABLE.finditer(word))
        roll = rng.random()
        if kinds and roll < 0.7:
            hit = rng.choice(kinds)
            word = word[: hit.start()] + _MISREAD[hit[0]] + word[hit.end() :]
        elif len(word) > 3 and roll < 0.9:
            cut = rng.randint(1, len(word) - 1)
            word = f"{word[:cut]}-\n{word[cut:]}"
        else:
            word += "l"
        changes[position] = (1, word)
    return text, _replace(text, changes)


def mixed(text: str, rng: random.Random, broken: float, stock: Stock) -> Pair:
    """A mixture of edits: a new edition, or an edited duplicate."""
    changed = text
    for edit in (substitutions, insertions, deletions):
        changed = edit(changed, rng, broken / 3, stock)[1]
    return text, punctuation(changed, rng, broken, stock)[1]


EDITS: dict[str, Edit] = {
    edit.__name__: edit
    for edit in (
        substitutions,
        insertions,
        deletions,
        sentences_moved,
        paragraphs_moved,
        boilerplate,
        excerpt,
        punctuation,
        rewrapped,
        ocr,
        mixed,
    )
}
FIXED = frozenset({"punctuation", "rewrapped"})  # the strength does not change their similarity
