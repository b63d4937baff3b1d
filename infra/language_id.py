"""The language of a text, by fastText's lid.176 model (Joulin et al. 2016, arXiv:1607.01759).

The only module that touches fastText. Prediction runs on one core, draws no random numbers, and is
given a list because of a bug in the original binding: its ``predict`` of a single string fails
with NumPy 2.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from infra.download.language_id import lid_model_path
from infra.formats.unicode_tables import ALPHA, UPPER, char_tables

UNKNOWN = "und"  # ISO 639-2: undetermined
SCORE_DIGITS = 4  # decimals of a score: further ones depend on the build, not on the model

CASE_SAMPLE = 1000  # characters that decide whether a text is in capitals

_LABEL_PREFIX = "__label__"


@cache
def _load_model() -> Any:
    """The model, loaded once per process."""
    import fasttext

    return fasttext.load_model(str(lid_model_path()))


def prepare_lid_input(text: str, max_chars: int) -> str:
    """The model's input for a text: its first characters on one line, in lower case if most are capitals.

    The model reads up to a newline, and was trained on text without them. It takes capitals for
    other languages: of paragraphs of the Universal Declaration of Human Rights in 120 languages it
    identifies 47 %, in capitals 10 %, and 48 % if these are put into lower case.
    """
    line = " ".join(text[:max_chars].split())
    points = np.frombuffer(line[:CASE_SAMPLE].encode("utf-32-le"), np.uint32)
    flags = char_tables()[0][points]
    capitals, letters = np.count_nonzero(flags & UPPER), np.count_nonzero(flags & ALPHA)
    return line.lower() if 2 * capitals > letters else line


def identify(texts: Sequence[str], max_chars: int) -> tuple[list[str], list[float]]:
    """Return the most likely language of each text, by its first ``max_chars`` characters.

    Returns:
        n language codes of lid.176 (ISO 639-1, or -3 where there is none), and n scores
        in [0, 1], rounded to ``SCORE_DIGITS`` places. A text without a letter gives ``UNKNOWN`` and 0.
    """
    codes, scores = [UNKNOWN] * len(texts), [0.0] * len(texts)
    inputs = [prepare_lid_input(text, max_chars) for text in texts]
    rows = [row for row, text in enumerate(inputs) if any(map(str.isalpha, text))]
    if rows:
        labels, probabilities = _load_model().predict([inputs[row] for row in rows], k=1)
        for row, label, probability in zip(rows, labels, probabilities, strict=True):
            codes[row] = label[0].removeprefix(_LABEL_PREFIX)
            # The softmax of the compressed model exceeds 1 by some 1e-5.
            scores[row] = round(min(float(probability[0]), 1.0), SCORE_DIGITS)
    return codes, scores
