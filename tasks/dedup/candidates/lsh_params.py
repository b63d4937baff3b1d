"""The S-curve: how likely a pair is nominated, and the bands that reach a wanted recall.

Two documents of Jaccard similarity s share at least one of b bands of r rows with probability
``1 - (1 - s**r)**b`` (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, section 3.4).
"""

import numpy as np

GRID = 200  # points of the numerical integral
MOST_BANDS = 256  # a nominated pair carries the number of its band in eight bits
SHOWN = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def probability(similarity: float, bands: int, rows: int) -> float:
    """How likely a pair of this similarity is nominated: a point of the S-curve."""
    return float(1 - (1 - similarity**rows) ** bands)


def wasted(threshold: float, bands: int, rows: int) -> float:
    """The area under the S-curve left of the threshold: pairs compared in vain, if evenly spread.

    The same measure as the false-positive weight of datasketch's parameter search.
    """
    middles = (np.arange(GRID) + 0.5) * threshold / GRID
    return float(np.mean(1 - (1 - middles**rows) ** bands) * threshold)


def choose(threshold: float, recall: float, hashes: int) -> tuple[int, int]:
    """The bands and rows that nominate a pair at ``threshold`` with at least this probability.

    Of all that fit into ``hashes`` values and `MOST_BANDS`, those that waste the fewest
    comparisons; of equals, those with the fewest values.

    Raises:
        ValueError: if none fit.
    """
    fit = [
        (wasted(threshold, bands, rows), bands * rows, bands, rows)
        for rows in range(1, hashes + 1)
        for bands in range(1, min(hashes // rows, MOST_BANDS) + 1)
        if probability(threshold, bands, rows) >= recall
    ]
    if not fit:
        raise ValueError(
            f"no bands of at most {hashes} hash values, and at most {MOST_BANDS} bands, nominate "
            f"pairs of similarity {threshold} with probability {recall}; allow more hashes or ask "
            f"for less recall"
        )
    _, _, bands, rows = min(fit)
    return bands, rows


def curve(bands: int, rows: int) -> dict[str, float]:
    """The S-curve at similarities from 0.5 to 0.95, rounded to four places."""
    return {str(s): round(probability(s, bands, rows), 4) for s in SHOWN}
