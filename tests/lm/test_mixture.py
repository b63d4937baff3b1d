import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.config.data import CYCLE_SAMPLES, cycle_counts
from lm.data.mixture import Mixture

WEIGHTS = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3), st.floats(0.5, 20), min_size=1, max_size=6
)


@given(WEIGHTS)
def test_every_weight_gets_its_share_of_a_cycle(weights: dict[str, float]) -> None:
    counts, total = cycle_counts(weights), sum(weights.values())
    assert sum(counts.values()) == CYCLE_SAMPLES
    assert list(counts) == sorted(weights)
    assert all(abs(counts[n] - CYCLE_SAMPLES * weights[n] / total) < 1 for n in weights)


def test_shares_go_by_the_largest_remainder() -> None:
    assert cycle_counts({"a": 1, "b": 1, "c": 1}) == {"a": 342, "b": 341, "c": 341}
    assert cycle_counts({"web": 7, "books": 3}) == {"books": 307, "web": 717}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "no source"),
        ({"a": 1, "b": 0}, "'b' is not positive"),
        ({"a": float("nan")}, "'a' is not positive"),
        ({"a": 1, "b": 1e-6}, "'b' would get less than one of 1024"),
    ],
)
def test_a_weight_that_cannot_be_held_is_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cycle_counts(weights)


@given(WEIGHTS, st.integers(0, 99), st.integers(0, 10**6))
def test_every_cycle_holds_the_mixture_to_the_sample(
    weights: dict[str, float], seed: int, cycle: int
) -> None:
    counts = tuple(cycle_counts(weights).values())
    mixture = Mixture(seed, counts)
    samples = np.arange(cycle * CYCLE_SAMPLES, (cycle + 1) * CYCLE_SAMPLES)
    streams, numbers = mixture.locate_samples(samples)
    assert np.bincount(streams, minlength=len(counts)).tolist() == list(counts)
    for stream, size in enumerate(counts):
        own = numbers[streams == stream]
        assert sorted(own) == list(range(cycle * size, (cycle + 1) * size))
        back = mixture.inverse(stream, own)
        assert back.tolist() == samples[streams == stream].tolist()


def test_sources_are_mixed_within_a_cycle() -> None:
    streams, _ = Mixture(3, (512, 512)).locate_samples(np.arange(8 * CYCLE_SAMPLES))
    assert abs(np.corrcoef(streams[:-1], streams[1:])[0, 1]) < 0.05
    assert (streams[:CYCLE_SAMPLES] != streams[CYCLE_SAMPLES : 2 * CYCLE_SAMPLES]).any()
