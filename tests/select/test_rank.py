"""The order of preference among duplicates."""

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from tasks.select.config import SelectConfig
from tasks.select.rank import rank_keys, required_signals

DOCUMENTS = pa.table({"date": ["2020-05-01", None, "2021", "2020-05-01T10:00:00Z"]})
ANNOTATE = pa.table({"characters": [5, 6, 7, 8], "language_score": [0.1, 0.9, 0.5, 0.5]})


@pytest.mark.parametrize(
    ("key", "order"),
    [
        ("longest", [3, 2, 1, 0]),
        ("shortest", [0, 1, 2, 3]),
        ("newest", [2, 0, 3, 1]),
        ("oldest", [0, 3, 2, 1]),
        ("highest:language_score", [1, 2, 3, 0]),
        ("lowest:language_score", [0, 2, 3, 1]),
        ("source", [0, 1, 2, 3]),
    ],
)
def test_smaller_numbers_come_first(key: str, order: list[int]) -> None:
    result = rank_keys([key], 4, DOCUMENTS, ANNOTATE)
    assert np.argsort(result[:, 0], kind="stable").tolist() == order


def test_required_signals_are_the_annotations_that_are_read() -> None:
    order = ("source", "longest", "newest", "highest:language_score")
    assert required_signals(order) == {"characters", "language_score"}


def test_an_unknown_preference_is_refused_with_the_known_ones() -> None:
    for wrong in ("best", "highest:", "highest:fluency", "longest:words"):
        with pytest.raises(ValidationError, match="source, longest, shortest, newest, oldest"):
            SelectConfig.model_validate({"prefer": [wrong]})
