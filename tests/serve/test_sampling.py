"""Samples against transformers' own warpers, and what is said of their certainty."""

import time
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LogitsProcessorList
from transformers.generation.logits_process import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from serve.engines.batched.sampling import SamplingState, choose, edit_logits
from serve.engines.interface import Sampling

VOCAB_SIZE, DRAWS = 40, 3000


def state(
    sampling: Sampling, prompt: tuple[int, ...] = (), generated: tuple[int, ...] = ()
) -> SamplingState:
    return SamplingState(sampling, frozenset(prompt), Counter(generated), len(generated))


def logits(seed: int = 0, scale: float = 2.0) -> torch.Tensor:
    drawn = torch.randn(VOCAB_SIZE, generator=torch.Generator().manual_seed(seed))
    return drawn * scale


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.5),
        Sampling(top_k=3),
        Sampling(top_k=10, top_p=0.7, temperature=1.3),
        Sampling(top_p=0.3),
        Sampling(top_p=1e-9),
    ],
)
@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_frequencies_are_those_of_transformers(sampling: Sampling, noise: float) -> None:
    own = logits()
    warpers = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    no_ids: Any = torch.zeros(1, 0, dtype=torch.int64)
    expected = warpers(no_ids, own[None])[0].softmax(0).numpy()
    drawn = Counter[int]()
    for seed in range(DRAWS):
        (choice,) = choose(own[None], [state(Sampling(**{**vars(sampling), "seed": seed}))], noise)
        drawn[choice.id] += 1
    found = np.array([drawn[id_] / DRAWS for id_ in range(VOCAB_SIZE)])
    assert not found[expected == 0].any()
    error = np.sqrt(expected * (1 - expected) / DRAWS)
    assert (np.abs(found - expected) <= 5 * error).all()


def test_the_draws_of_a_token_depend_on_its_place_and_the_seed() -> None:
    flat = torch.zeros(1, 1000)
    found = {
        choose(flat, [state(Sampling(seed=seed), generated=(0,) * place)], 0.0)[0].id
        for seed in range(20)
        for place in range(20)
    }
    assert len(found) > 250  # of 400


def test_penalties_and_bias_are_as_defined() -> None:
    sampling = Sampling(
        presence_penalty=0.5,
        frequency_penalty=0.25,
        repetition_penalty=2.0,
        logit_bias=((3, 4.0), (7, -100.0)),
    )
    before = logits(1)
    found = edit_logits(before, state(sampling, prompt=(1, 2), generated=(2, 5, 5)))
    penalize = RepetitionPenaltyLogitsProcessor(2.0)
    expected = penalize(torch.tensor([[1, 2, 5]]), before[None].clone())[0]
    expected[2] -= 0.5 + 0.25
    expected[5] -= 0.5 + 2 * 0.25
    expected[3] += 4
    expected[7] -= 100
    torch.testing.assert_close(found, expected)


def test_of_equal_logits_the_first_is_chosen() -> None:
    equal = torch.zeros(2, 30)
    equal[1, 7] = equal[1, 9] = 1
    choices = choose(equal, [state(Sampling(temperature=0))] * 2, 0.0)
    assert [choice.id for choice in choices] == [0, 7]


def test_a_choice_is_certain_unless_the_noise_could_change_it() -> None:
    """For 300 draws and twenty other logits within the noise each."""
    noise, generator = 5e-3, torch.Generator().manual_seed(2)
    samplings = [
        Sampling(temperature=0),
        Sampling(),
        Sampling(top_k=5),
        Sampling(top_p=0.6),
        Sampling(top_k=12, top_p=0.8, temperature=0.6, repetition_penalty=1.5),
    ]
    changed = uncertain = 0
    for seed in range(300):
        own = logits(seed, 1.0)
        sampling = Sampling(**{**vars(samplings[seed % len(samplings)]), "seed": seed})
        how = state(sampling, prompt=(1, 2, 3))
        (choice,) = choose(own[None], [how], noise)
        others = own + (torch.rand(20, VOCAB_SIZE, generator=generator) * 2 - 1) * noise
        differ = {each.id for each in choose(others, [how] * 20, 0.0)} != {choice.id}
        assert not (differ and choice.is_certain)
        changed += differ
        uncertain += not choice.is_certain
    assert 0 < changed <= uncertain < 60


@pytest.mark.parametrize("temperature", [0.01, 0.05])
def test_a_low_temperature_with_top_p_is_fast_and_certain(temperature: float) -> None:
    """All but a few of 32,000 tokens come after the end of top_p, whose place is off by the noise."""
    own = torch.randn(1, 32_000, generator=torch.Generator().manual_seed(3))
    how = [
        state(Sampling(temperature=temperature, top_p=0.99, seed=seed), prompt=(1,))
        for seed in range(20)
    ]
    start = time.monotonic()
    choices = choose(own.expand(20, -1), how, 1e-4)
    assert time.monotonic() - start < 5
    assert sum(choice.is_certain for choice in choices) >= 18
