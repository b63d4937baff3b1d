"""Pairs of sentences whose languages are the wrong way round."""

from collections.abc import Callable, Sequence

from infra.language_id import identify

MAX_CHARS = 1000  # of a sentence, by which its language is identified
# A short sentence is identified badly; only a confident answer on both sides makes a pair fail.
MIN_SCORE = 0.5

Identify = Callable[[Sequence[str], int], tuple[list[str], list[float]]]


def find_swapped(
    sources: Sequence[str],
    targets: Sequence[str],
    languages: tuple[str, str],
    identify_languages: Identify = identify,
) -> list[bool]:
    """Return which pairs have the source in the target's language, and the target in the source's.

    Args:
        sources: n texts.
        targets: n texts.
        languages: codes of lid.176 of the sources and of the targets, such as ``("en", "de")``.
        identify_languages: the identification; the annotator's by default.
    """
    sides = [identify_languages(texts, MAX_CHARS) for texts in (sources, targets)]
    wrong = [
        [code == other and score >= MIN_SCORE for code, score in zip(codes, scores, strict=True)]
        for (codes, scores), other in zip(sides, reversed(languages), strict=True)
    ]
    return [a and b for a, b in zip(*wrong, strict=True)]
