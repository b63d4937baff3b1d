import hashlib

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from lm.models.dropout import (
    add_step_key,
    drop_weights,
    dropout,
    dropout_keys,
    site_keys,
    variational_dropout,
)


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


def test_masks_are_the_same_for_ever() -> None:
    for step in (None, 7):
        keys = dropout_keys(1337, np.arange(5))
        keys = keys if step is None else add_step_key(keys, 1337, step)
        mask = dropout(torch.ones(5, 64, 32), site_keys(torch.from_numpy(keys), 3), 0.25) != 0
        assert hashlib.sha256(mask.numpy().tobytes()).hexdigest() == (
            "a65325ec982284922440cc9096df04bb750b2b1e49bd73f0b8b3493fc89a5140"
        )


@given(st.integers(0, 2**62), st.integers(0, 2**40), st.integers(0, 2**20))
def test_weights_lose_the_same_for_all_samples_of_a_step(seed: int, first: int, step: int) -> None:
    keys = dropout_keys(seed, np.arange(first, first + 8))
    weight = torch.ones(64, 16)
    by_sample, by_step, by_site = (
        [drop_weights(weight, site_keys(torch.from_numpy(key), site), 0.5) for key, site in each]
        for each in (
            [(add_step_key(keys, seed, step)[at : at + 1], 1) for at in range(8)],
            [(add_step_key(keys, seed, step + more), 1) for more in (0, 1)],
            [(add_step_key(keys, seed, step), site) for site in (1, 2)],
        )
    )
    assert all(torch.equal(mask, by_sample[0]) for mask in by_sample)
    for one, other in (by_step, by_site):
        assert 0.35 < (one == other).float().mean() < 0.65


def test_variational_dropout_is_the_same_at_all_positions() -> None:
    keys = torch.from_numpy(dropout_keys(1, np.arange(16)))
    dropped = variational_dropout(torch.ones(16, 7, 64), keys, 0.3)
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert abs((dropped == 0).float().mean().item() - 0.3) < 0.05
    assert not torch.equal(dropped[0], dropped[1])
