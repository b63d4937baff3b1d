"""Colors that show what each token adds to a score."""

from collections.abc import Sequence

MAX_OPACITY = 0.7


def token_colors(scores: Sequence[float]) -> list[str]:
    """Return a background per token, in CSS: green adds to the score, red takes from it.

    Opacity is relative to the largest score of all.
    """
    largest = max(map(abs, scores), default=0.0) or 1.0
    return [
        f"rgba({'0,140,60' if score >= 0 else '200,30,30'},{MAX_OPACITY * abs(score) / largest:.2f})"
        for score in scores
    ]
