r"""The quality signals: every column that ``annotate`` computes and a rule of ``select`` may test.

A rule (`infra.schemas.quality_rules`) that names a signal missing here is refused before anything
runs. Signals are grouped in families; ``tasks/annotate/signals/<family>.py`` computes a family.
``docs/annotate.md`` compares the definitions with other implementations.

Vocabulary of the definitions:

- *token*: a word or a symbol, as `tasks.annotate.signals.tokens` splits them. English text is split
  much as spaCy does, with which the published thresholds were found. Every character of Han,
  Hiragana or Katakana is a word.
- *word*: a token with a letter, mark or digit.
- *splitlines lines*: the lines of ``str.splitlines``. *Nonblank lines*: those of ``str.split("\n")``
  that are not white space alone. *Newline-runs lines*: those of ``re.split("\n+", text)``.
- *paragraph*: an item of ``re.split("\n{2,}", text.strip())``.
- lengths are in characters (code points). A fraction with the denominator 0 is 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import pyarrow as pa


@dataclass(frozen=True)
class Signal:
    """One annotation column.

    Attributes:
        name: the column, ``<family>_<signal>`` unless the family is ``size``.
        type: its Arrow type; never null.
        definition: what it counts, in the vocabulary of this module.
    """

    name: str
    type: pa.DataType
    definition: str


_INT = pa.int64()
_REAL = pa.float64()
_FLAG = pa.bool_()

TOP_NGRAM_SIZES = (2, 3, 4)  # Gopher, table A1
DUP_NGRAM_SIZES = (5, 6, 7, 8, 9, 10)

_SIZE = (
    Signal("words", _INT, "words of the text"),
    Signal("characters", _INT, "characters (code points) of the text"),
    Signal("bytes", _INT, "bytes of the text in UTF-8"),
)

_GOPHER_REPETITION = (
    Signal(
        "gopher_repetition_dup_line_fraction",
        _REAL,
        "newline-runs lines equal to an earlier one / newline-runs lines",
    ),
    Signal(
        "gopher_repetition_dup_paragraph_fraction",
        _REAL,
        "paragraphs equal to an earlier one / paragraphs",
    ),
    Signal(
        "gopher_repetition_dup_line_char_fraction",
        _REAL,
        "length of newline-runs lines equal to an earlier one / length of the text",
    ),
    Signal(
        "gopher_repetition_dup_paragraph_char_fraction",
        _REAL,
        "length of paragraphs equal to an earlier one / length of the text",
    ),
    *(
        Signal(
            f"gopher_repetition_top_{n}gram_char_fraction",
            _REAL,
            f"occurrences of the most frequent {n}-gram of tokens (of equals, the first) x its "
            "length with single spaces / length of the text",
        )
        for n in TOP_NGRAM_SIZES
    ),
    *(
        Signal(
            f"gopher_repetition_dup_{n}gram_char_fraction",
            _REAL,
            f"reading from the left, length without spaces of every {n}-gram of tokens that "
            "occurred before, each skipped whole / length of the text",
        )
        for n in DUP_NGRAM_SIZES
    ),
)

_GOPHER_QUALITY = (
    Signal("gopher_quality_word_count", _INT, "words of the text"),
    Signal("gopher_quality_mean_word_length", _REAL, "length of all words / words"),
    Signal("gopher_quality_hash_word_ratio", _REAL, "number signs (#) / tokens"),
    Signal(
        "gopher_quality_ellipsis_word_ratio",
        _REAL,
        "ellipses (… or, not overlapping, ...) / tokens",
    ),
    Signal(
        "gopher_quality_bullet_line_fraction",
        _REAL,
        "splitlines lines whose first visible character is • or - / splitlines lines",
    ),
    Signal(
        "gopher_quality_ellipsis_line_fraction",
        _REAL,
        "splitlines lines that end, white space aside, in … or ... / splitlines lines",
    ),
    Signal("gopher_quality_alpha_word_fraction", _REAL, "tokens with at least one letter / tokens"),
    Signal(
        "gopher_quality_stop_words",
        _INT,
        "how many of the eight words the, be, to, of, and, that, have, with occur (as written)",
    ),
)

_C4 = (
    Signal(
        "c4_kept_line_fraction",
        _REAL,
        "splitlines lines that C4's line rules keep, without requiring terminal punctuation / "
        "splitlines lines",
    ),
    Signal(
        "c4_terminal_line_fraction",
        _REAL,
        "splitlines lines that end in . ? ! \" or ' and not in ... (citations such as [3] "
        "removed) / splitlines lines",
    ),
    Signal(
        "c4_sentences",
        _INT,
        "sentences in the lines that C4's line rules keep, without requiring terminal punctuation",
    ),
    Signal(
        "c4_terminal_sentences",
        _INT,
        "sentences in the lines that C4's line rules keep, requiring terminal punctuation",
    ),
    Signal("c4_lorem_ipsum", _FLAG, "a line of three or more words contains 'lorem ipsum'"),
    Signal(
        "c4_curly_brace", _FLAG, "a line of three or more words, not about JavaScript, contains {"
    ),
)

_FINEWEB = (
    Signal(
        "fineweb_line_punct_fraction",
        _REAL,
        "nonblank lines whose last character ends a sentence (Unicode Sentence_Terminal) / "
        "nonblank lines",
    ),
    Signal(
        "fineweb_short_line_fraction",
        _REAL,
        "nonblank lines of at most 30 characters / nonblank lines",
    ),
    Signal(
        "fineweb_dup_line_char_fraction",
        _REAL,
        "length of nonblank lines equal to an earlier one / length of the text without \\n",
    ),
    Signal("fineweb_newline_word_ratio", _REAL, "\\n characters / tokens"),
)

# The signals of each family; a family is the name of its module in `tasks.annotate.signals`.
FAMILIES: Mapping[str, tuple[Signal, ...]] = MappingProxyType(
    {
        "size": _SIZE,
        "gopher_repetition": _GOPHER_REPETITION,
        "gopher_quality": _GOPHER_QUALITY,
        "c4": _C4,
        "fineweb": _FINEWEB,
    }
)

# All signals by name, in the order of their columns.
SIGNALS: Mapping[str, Signal] = MappingProxyType(
    {signal.name: signal for signals in FAMILIES.values() for signal in signals}
)
