"""The S-curve: how likely a pair is nominated, and the bands that reach a wanted recall.

Two documents of Jaccard similarity s share at least one of b bands of r rows with probability
``1 - (1 - s**r)**b`` (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, section 3.4).
"""

import numpy as np

INTEGRAL_POINTS = 200  # points of the numerical integral
MAX_BANDS = 256  # a nominated pair carries the number of its band in eight bits
CURVE_SIMILARITIES = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def candidate_probability(similarity: float, bands: int, rows: int) -> float:
    """How likely a pair of this similarity is nominated: a point of the S-curve."""
    return float(1 - (1 - similarity**rows) ** bands)


def false_positive_area(threshold: float, bands: int, rows: int) -> float:
    """The area under the S-curve left of the threshold: pairs compared in vain, if evenly spread.

    The same measure as the false-positive weight of datasketch's parameter search.
    """
    middles = (np.arange(INTEGRAL_POINTS) + 0.5) * threshold / INTEGRAL_POINTS
    return float(np.mean(1 - (1 - middles**rows) ** bands) * threshold)


def choose_banding(threshold: float, recall: float, max_permutations: int) -> tuple[int, int]:
    """The bands and rows that nominate a pair at ``threshold`` with at least this probability.

    Of all that fit into ``max_permutations`` values and `MAX_BANDS`, those that waste the fewest
    comparisons; of equals, those with the fewest values.

    Raises:
        ValueError: if none fit.
    """
    fit = [
        (false_positive_area(threshold, bands, rows), bands * rows, bands, rows)
        for rows in range(1, max_permutations + 1)
        for bands in range(1, min(max_permutations // rows, MAX_BANDS) + 1)
        if candidate_probability(threshold, bands, rows) >= recall
    ]
    if not fit:
        raise ValueError(
            f"no bands of at most {max_permutations} hash values, and at most {MAX_BANDS} bands, nominate "
            f"pairs of similarity {threshold} with probability {recall}; allow more permutations or ask "
            f"for a lower target_recall"
        )
    _, _, bands, rows = min(fit)
    return bands, rows


def s_curve(bands: int, rows: int) -> dict[str, float]:
    """The S-curve at similarities from 0.5 to 0.95, rounded to four places."""
    return {str(s): round(candidate_probability(s, bands, rows), 4) for s in CURVE_SIMILARITIES}
