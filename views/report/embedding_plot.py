"""Places of words in a picture of their embeddings."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PLOT = (640, 400)  # width and height
MARGIN = 30


@dataclass(frozen=True)
class Place:
    """A word, or another token, and where it is drawn."""

    token: str
    x: float
    y: float


def place_points(points: Iterable[tuple[str, Sequence[float]]]) -> list[Place]:
    """Return each distinct token and its place, so that all together fill the picture."""
    places = dict(points)
    spans = []
    for axis, size in enumerate(PLOT):
        values = [point[axis] for point in places.values()]
        low, width = min(values), (max(values) - min(values)) or 1.0
        spans.append((low, (size - 2 * MARGIN) / width))
    return [
        Place(
            token,
            round(MARGIN + (point[0] - spans[0][0]) * spans[0][1], 1),
            round(PLOT[1] - MARGIN - (point[1] - spans[1][0]) * spans[1][1], 1),
        )
        for token, point in places.items()
    ]
