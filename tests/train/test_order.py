import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.train.order import Order, TooFewTokens, count_windows


@given(st.integers(1, 3000), st.integers(0, 2**40), st.integers(1, 64))
def test_every_epoch_takes_every_window_once(windows: int, seed: int, batch: int) -> None:
    order = Order(seed, windows, batch)
    steps = -(-2 * windows // batch)
    taken = np.concatenate([order.at(step) for step in range(steps)])[: 2 * windows]
    first, second = taken[:windows], taken[windows:]
    assert sorted(first) == sorted(second) == list(range(windows))


@given(st.integers(1, 500), st.integers(0, 99), st.integers(1, 40), st.integers(1, 60))
def test_a_window_leads_back_to_its_steps(windows: int, seed: int, batch: int, steps: int) -> None:
    order = Order(seed, windows, batch)
    batches = [set(order.at(step)) for step in range(steps)]
    for window in {0, windows // 2, windows - 1}:
        expected = [step for step, batch in enumerate(batches) if window in batch]
        assert order.steps_of(np.array([window]), steps).tolist() == expected


def test_the_order_depends_on_seed_and_epoch_and_looks_random() -> None:
    first = Order(1, 10_000, 10_000).at(0)
    second_epoch, other_seed = Order(1, 10_000, 10_000).at(1), Order(2, 10_000, 10_000).at(0)
    for one, other in ((first, second_epoch), (first, other_seed), (first, np.arange(10_000))):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.05
        assert (one == other).mean() < 0.001
    assert first[:4].tolist() == Order(1, 10_000, 10_000).at(0)[:4].tolist()


def test_the_order_is_for_ever() -> None:
    """A run made with an earlier version must still be traceable."""
    assert Order(1337, 1000, 8).at(0).tolist() == GOLDEN[0]
    assert Order(1337, 1000, 8).at(125).tolist() == GOLDEN[1]


GOLDEN = (
    [138, 949, 597, 343, 781, 245, 902, 228],
    [467, 193, 915, 837, 168, 687, 749, 170],
)


def test_too_few_tokens_are_refused() -> None:
    assert count_windows(9, 8) == 1
    assert count_windows(17, 8) == 2
    with pytest.raises(TooFewTokens, match="has 8 tokens; a context of 8 needs 9"):
        count_windows(8, 8)
