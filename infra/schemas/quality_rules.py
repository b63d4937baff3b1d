"""The published quality rules as data: the signal that each one tests, and its threshold.

``annotate`` writes the signals, ``select`` applies the rules that a recipe names. A rule's threshold
can be changed without reading text again.
"""

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from infra.schemas.signals import DUP_NGRAM_SIZES, SIGNALS, TOP_NGRAM_SIZES

Comparison = Literal[">=", "<=", "=="]
COMPARE: Mapping[str, Callable[[Any, Any], Any]] = MappingProxyType(
    {">=": operator.ge, "<=": operator.le, "==": operator.eq}
)

GOPHER = "Rae et al. 2021, https://arxiv.org/abs/2112.11446, table A1"
GOPHER_QUALITY = "Rae et al. 2021, https://arxiv.org/abs/2112.11446, appendix A.1.1"
C4 = "Raffel et al. 2020, https://jmlr.org/papers/v21/20-074.html, section 2.2"
FINEWEB = (
    "Penedo et al. 2024, https://arxiv.org/abs/2406.17557; values of datatrove's FineWeb filter"
)

# Languages whose words, as tokens, are single characters or whole phrases, so that a threshold for
# the length of words makes no sense; Korean words average under three syllables.
NO_WORD_SPACES = ("bo", "ja", "km", "ko", "lo", "my", "th", "wuu", "yue", "zh")
# Of these, the ones whose tokens are phrases: a number of words means nothing either. Characters of
# Chinese and Japanese are words, and Korean has spaces.
PHRASES = ("bo", "km", "lo", "my", "th")
MIN_PHRASE_CHARACTERS = 200  # 50 words of four characters, about the mean of Thai


@dataclass(frozen=True)
class Rule:
    """A document passes when ``signal comparison threshold`` holds.

    Attributes:
        name: the reason in the ledger when a document fails: ``<filter>_<rule>``.
        signal: the column that is tested, one of `infra.schemas.signals.SIGNALS`.
        comparison: how signal (left) and threshold (right) relate in a document that passes.
        threshold: the published threshold.
        citation: where the threshold was published.
        languages: codes of the only languages the rule applies to; ``None`` for all.
        exempt: codes of the languages the rule does not apply to.
    """

    name: str
    signal: str
    comparison: Comparison
    threshold: float
    citation: str
    languages: tuple[str, ...] | None = None
    exempt: tuple[str, ...] = ()

    def applies_to(self, language: str | None) -> bool:
        """Whether the rule applies to documents of a language (``None``: unknown)."""
        if self.languages is not None and language not in self.languages:
            return False
        return language not in self.exempt

    def passes(self, value: float, threshold: float | None = None) -> bool:
        """Whether a document with this value of the signal passes."""
        required = self.threshold if threshold is None else threshold
        return bool(COMPARE[self.comparison](value, required))


def _max_rule(filter_: str, name: str, signal: str, threshold: float, citation: str) -> Rule:
    return Rule(f"{filter_}_{name}", f"{filter_}_{signal}", "<=", threshold, citation)


def _gopher_repetition() -> tuple[Rule, ...]:
    thresholds = {
        "dup_lines": ("dup_line_fraction", 0.30),
        "dup_paragraphs": ("dup_paragraph_fraction", 0.30),
        "dup_line_chars": ("dup_line_char_fraction", 0.20),
        "dup_paragraph_chars": ("dup_paragraph_char_fraction", 0.20),
    }
    for n, threshold in zip(TOP_NGRAM_SIZES, (0.20, 0.18, 0.16), strict=True):
        thresholds[f"top_{n}gram"] = (f"top_{n}gram_char_fraction", threshold)
    for n, threshold in zip(DUP_NGRAM_SIZES, (0.15, 0.14, 0.13, 0.12, 0.11, 0.10), strict=True):
        thresholds[f"dup_{n}gram"] = (f"dup_{n}gram_char_fraction", threshold)
    return tuple(
        _max_rule("gopher_repetition", name, signal, threshold, GOPHER)
        for name, (signal, threshold) in thresholds.items()
    )


def _gopher_quality() -> tuple[Rule, ...]:
    name = "gopher_quality"
    words, length = f"{name}_word_count", f"{name}_mean_word_length"
    alpha, stop = f"{name}_alpha_word_fraction", f"{name}_stop_words"
    return (
        Rule(f"{name}_too_few_words", words, ">=", 50, GOPHER_QUALITY, exempt=PHRASES),
        Rule(
            f"{name}_too_few_characters",
            "characters",
            ">=",
            MIN_PHRASE_CHARACTERS,
            GOPHER_QUALITY,
            languages=PHRASES,
        ),
        Rule(f"{name}_too_many_words", words, "<=", 100_000, GOPHER_QUALITY),
        Rule(f"{name}_short_words", length, ">=", 3, GOPHER_QUALITY, exempt=NO_WORD_SPACES),
        Rule(f"{name}_long_words", length, "<=", 10, GOPHER_QUALITY, exempt=NO_WORD_SPACES),
        _max_rule(name, "hashes", "hash_word_ratio", 0.1, GOPHER_QUALITY),
        _max_rule(name, "ellipses", "ellipsis_word_ratio", 0.1, GOPHER_QUALITY),
        _max_rule(name, "bullet_lines", "bullet_line_fraction", 0.9, GOPHER_QUALITY),
        _max_rule(name, "ellipsis_lines", "ellipsis_line_fraction", 0.3, GOPHER_QUALITY),
        Rule(f"{name}_alpha_words", alpha, ">=", 0.8, GOPHER_QUALITY),
        Rule(f"{name}_stop_words", stop, ">=", 2, GOPHER_QUALITY, languages=("en",)),
    )


RULES: Mapping[str, tuple[Rule, ...]] = MappingProxyType(
    {
        "gopher_repetition": _gopher_repetition(),
        "gopher_quality": _gopher_quality(),
        # As FineWeb applies it: without requiring terminal punctuation at the end of every line.
        "c4": (
            Rule("c4_lorem_ipsum", "c4_lorem_ipsum", "==", False, C4),
            Rule("c4_curly_brace", "c4_curly_brace", "==", False, C4),
            Rule("c4_sentences", "c4_sentences", ">=", 5, C4),
        ),
        "fineweb": (
            Rule("fineweb_line_punct", "fineweb_line_punct_fraction", ">=", 0.12, FINEWEB),
            _max_rule("fineweb", "short_lines", "short_line_fraction", 0.67, FINEWEB),
            # FineWeb's code uses 0.01; its paper says 0.1.
            _max_rule("fineweb", "dup_line_chars", "dup_line_char_fraction", 0.01, FINEWEB),
            Rule(
                "fineweb_newlines",
                "fineweb_newline_word_ratio",
                "<=",
                0.3,
                FINEWEB,
                exempt=PHRASES,
            ),
        ),
    }
)


def check_rules(rules: Iterable[Rule]) -> None:
    """Check that every rule tests a signal that exists.

    Raises:
        ValueError: if a rule names an unknown signal.
    """
    for rule in rules:
        if rule.signal not in SIGNALS:
            raise ValueError(
                f"rule {rule.name!r} names the signal {rule.signal!r}, which no stage writes"
            )


check_rules(rule for rules in RULES.values() for rule in rules)
