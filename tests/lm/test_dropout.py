import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from lm.models.dropout import dropout, dropout_keys, site_keys


def test_the_share_is_dropped_and_the_mean_stays() -> None:
    keys = torch.from_numpy(dropout_keys(1, np.arange(64)))
    dropped = dropout(torch.ones(64, 32, 48), site_keys(keys, 3), 0.3)
    assert abs((dropped == 0).float().mean().item() - 0.3) < 0.005
    assert abs(dropped.mean().item() - 1) < 0.01
    by_sample = (dropped == 0).float().mean(dim=(1, 2))
    assert (by_sample - 0.3).abs().max() < 0.06
    by_place = (dropped == 0).float().mean(dim=0)
    assert (by_place - 0.3).abs().max() < 0.35


@given(st.integers(0, 2**62), st.integers(0, 2**40), st.integers(1, 7))
def test_a_sample_loses_the_same_wherever_it_is_worked_on(seed: int, first: int, at: int) -> None:
    """In any batch, beside any other samples: so for any number of processes."""
    samples = np.arange(first, first + 8)
    keys = torch.from_numpy(dropout_keys(seed, samples))
    x = torch.randn(8, 5, 6)
    together = dropout(x, keys, 0.5)
    assert torch.equal(together[at:], dropout(x[at:], keys[at:], 0.5))


def test_samples_steps_and_places_have_masks_of_their_own() -> None:
    x = torch.ones(2, 16, 16)
    keys = torch.from_numpy(dropout_keys(1, np.array([0, 1])))
    masks = [dropout(x, site_keys(keys, site), 0.5)[row] for site in (0, 1) for row in (0, 1)]
    masks.append(
        dropout(x, site_keys(torch.from_numpy(dropout_keys(2, np.array([0, 1]))), 0), 0.5)[0]
    )
    for one in range(len(masks)):
        for other in range(one):
            agree = (masks[one] == masks[other]).float().mean()
            assert 0.35 < agree < 0.65


def test_nothing_is_dropped_without_keys() -> None:
    x = torch.randn(2, 3, 4)
    assert dropout(x, None, 0.5) is x
    assert dropout(x, torch.tensor([1, 2]), 0.0) is x


def test_keys_are_the_same_for_ever() -> None:
    """A run that resumes after an upgrade drops what it would have dropped."""
    assert dropout_keys(1337, np.array([0, 1, 2**40])).tolist() == [
        700466721,
        1312008613,
        1198554769,
    ]
