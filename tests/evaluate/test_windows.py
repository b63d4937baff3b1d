import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.scoring.huggingface import Window, windows


@given(st.integers(0, 500), st.integers(1, 60))
def test_every_prediction_counts_once_with_enough_before_it(length: int, context: int) -> None:
    laid = windows(length, context)
    assert [at for w in laid for at in range(w.first, w.end)] == list(range(length))
    for window in laid:
        assert 0 <= window.start <= window.first < window.end
        assert window.end - window.start <= context
        for at in range(window.first, window.end):
            assert at + 1 - window.start >= min(at + 1, context - context // 2)


@pytest.mark.parametrize(
    ("length", "context", "expected"),
    [
        (3, 8, [Window(0, 0, 3)]),
        (8, 8, [Window(0, 0, 8)]),
        (14, 8, [Window(0, 0, 8), Window(4, 8, 12), Window(6, 12, 14)]),
    ],
)
def test_windows_move_by_half_a_context(length: int, context: int, expected: list[Window]) -> None:
    assert windows(length, context) == expected
