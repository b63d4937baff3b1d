"""The language of a text, by fastText's lid.176 model (Joulin et al. 2016, arXiv:1607.01759).

The only module that touches fastText. Prediction runs on one core, draws no random numbers, and is
given a list because of a fault in the original binding: its ``predict`` of a single string fails
with NumPy 2.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from infra.download.language_id import lid_model_path

UNKNOWN = "und"  # ISO 639-2: undetermined
SCORE_DIGITS = 4  # of a score: more would show the arithmetic of the build, not of the model

_LABEL_PREFIX = "__label__"


@cache
def _load_model() -> Any:
    """The model, loaded once per process."""
    import fasttext

    return fasttext.load_model(str(lid_model_path()))


def prepare_lid_input(text: str, max_chars: int) -> str:
    """What the model is shown of a text: its first characters on one line.

    The model reads up to a newline, and was trained on text without them.
    """
    return " ".join(text[:max_chars].split())


def identify(texts: Sequence[str], max_chars: int) -> tuple[list[str], list[float]]:
    """The most likely language of each of n texts.

    Args:
        texts: plain text.
        max_chars: how much of the beginning is looked at.

    Returns:
        n language codes as lid.176 has them (ISO 639-1, or -3 where there is none), and n scores
        in [0, 1], rounded to ``SCORE_DIGITS`` places. A text without a letter gives ``UNKNOWN`` and 0.
    """
    codes, scores = [UNKNOWN] * len(texts), [0.0] * len(texts)
    shown = [prepare_lid_input(text, max_chars) for text in texts]
    rows = [row for row, text in enumerate(shown) if any(map(str.isalpha, text))]
    if rows:
        labels, probabilities = _load_model().predict([shown[row] for row in rows], k=1)
        for row, label, probability in zip(rows, labels, probabilities, strict=True):
            codes[row] = label[0].removeprefix(_LABEL_PREFIX)
            # The softmax of the compressed model exceeds 1 by some 1e-5.
            scores[row] = round(min(float(probability[0]), 1.0), SCORE_DIGITS)
    return codes, scores
