"""Pairs of sentences whose languages are the wrong way round."""

from collections.abc import Callable, Sequence

from infra.language_id import identify

MAX_CHARS = 1000  # of a sentence, by which its language is identified
# Single words such as "Name", of which catalogs are full, are identified as any language: pairs with a text
# of fewer characters are not judged, and an answer with a lower score says nothing.
MIN_CHARS = 20
MIN_SCORE = 0.5

Identify = Callable[[Sequence[str], int], tuple[list[str], list[float]]]


def find_swapped(
    sources: Sequence[str],
    targets: Sequence[str],
    languages: tuple[str, str],
    identify_languages: Identify = identify,
) -> list[bool]:
    """Return which pairs are the wrong way round.

    At least one side is surely in the other's language, and none is surely in its own. So a text that
    was not translated is not among them.

    Args:
        sources: n texts.
        targets: n texts.
        languages: codes of the sources and of the targets, such as ``("en", "de")``; regions do not count.
        identify_languages: the identification; the annotator's by default.
    """
    sides = [identify_languages(side, MAX_CHARS) for side in (sources, targets)]

    def is_sure(side: int, row: int, language: str) -> bool:
        codes, scores = sides[side]
        return codes[row] == language and scores[row] >= MIN_SCORE

    first, second = (code.partition("-")[0] for code in languages)
    if first == second:  # of two regions, such as pt-PT and pt-BR
        return [False] * len(sources)
    return [
        min(len(sources[row]), len(targets[row])) >= MIN_CHARS
        and (is_sure(0, row, second) or is_sure(1, row, first))
        and not (is_sure(0, row, first) or is_sure(1, row, second))
        for row in range(len(sources))
    ]
