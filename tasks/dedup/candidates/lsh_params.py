"""The S-curve: the probability that a pair becomes a candidate, and bands for a target recall.

Two documents of Jaccard similarity s share at least one of b bands of r rows with probability
``1 - (1 - s**r)**b`` (Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, section 3.4).
"""

import numpy as np

# Points of the numerical integral.
INTEGRAL_POINTS = 200
# A candidate pair carries the number of its band in eight bits.
MAX_BANDS = 256
CURVE_SIMILARITIES = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def candidate_probability(similarity: float, bands: int, rows: int) -> float:
    """Return the probability that a pair of this similarity becomes a candidate."""
    return float(1 - (1 - similarity**rows) ** bands)


def false_positive_area(threshold: float, bands: int, rows: int) -> float:
    """Return the area under the S-curve left of the threshold.

    It is proportional to the candidates below the threshold if similarities are evenly spread: the
    same measure as the false-positive weight of datasketch's parameter search.
    """
    middles = (np.arange(INTEGRAL_POINTS) + 0.5) * threshold / INTEGRAL_POINTS
    return float(np.mean(1 - (1 - middles**rows) ** bands) * threshold)


def choose_banding(threshold: float, recall: float, max_permutations: int) -> tuple[int, int]:
    """Choose bands and rows that make a pair at ``threshold`` a candidate with this probability.

    Of all choices within ``max_permutations`` and `MAX_BANDS`, return the one with the smallest
    `false_positive_area`, then with the fewest permutations.

    Raises:
        ValueError: if there is none.
    """
    choices = [
        (false_positive_area(threshold, bands, rows), bands * rows, bands, rows)
        for rows in range(1, max_permutations + 1)
        for bands in range(1, min(max_permutations // rows, MAX_BANDS) + 1)
        if candidate_probability(threshold, bands, rows) >= recall
    ]
    if not choices:
        raise ValueError(
            f"no choice of at most {max_permutations} permutations and {MAX_BANDS} bands makes pairs "
            f"of similarity {threshold} candidates with probability {recall}; allow more "
            f"permutations or a lower target_recall"
        )
    _, _, bands, rows = min(choices)
    return bands, rows


def s_curve(bands: int, rows: int) -> dict[str, float]:
    """Return the S-curve at similarities from 0.5 to 0.95, rounded to four places."""
    return {str(s): round(candidate_probability(s, bands, rows), 4) for s in CURVE_SIMILARITIES}
