"""Every family that generates, in the batched engine without its process: the same tokens as transformers'."""

import random
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lm.models.hf_auto import load_model
from lm.models.seq2seq.model import Seq2Seq
from lm.scoring.language_model import GenerationConfig
from lm.scoring.ngram import NgramLanguageModel
from serve.engines.batched.families.counts import NgramSteps
from serve.engines.batched.loading import causal_steps, load_language_model, seq2seq_steps
from serve.engines.batched.prefix_cache import PrefixCache
from serve.engines.batched.scheduler import SPARE_ROWS, Scheduler
from serve.engines.interface import Generation, Sampling, TokenScore
from tests.lm import test_ngram
from tests.serve.released import (
    CAUSAL,
    EOS,
    SEQ2SEQ,
    VOCAB_SIZE,
    Releases,
    generate_greedily,
)

LENGTHS, PROMPTS_PER_LENGTH, NEW_TOKENS = (1, 5, 17, 40), 25, 20
GREEDY = Sampling(temperature=0)


network = cache(load_language_model)


def scheduler(folder: Path, slots: int = 8, cache_bytes: int = 1 << 20) -> Scheduler:
    model = network(folder)
    if isinstance(model, Seq2Seq):
        return Scheduler(seq2seq_steps(model, slots + SPARE_ROWS, EOS), slots, None)
    steps = causal_steps(model, slots + SPARE_ROWS)
    return Scheduler(steps, slots, PrefixCache(steps, cache_bytes) if cache_bytes else None)


def run(
    engine: Scheduler,
    arrivals: Mapping[int, Sequence[Generation]],
    cancel: Mapping[int, int] | None = None,
) -> dict[int, list[TokenScore]]:
    """Return the tokens of generations, numbered in the order in which they arrive, by step.

    ``cancel``: after how many of its tokens a generation is cancelled.
    """
    tokens: dict[int, list[TokenScore]] = {}
    ended: set[int] = set()
    step = 0
    while engine.is_busy or step <= max(arrivals):
        for generation in arrivals.get(step, ()):
            engine.submit(len(tokens), generation)
            tokens[len(tokens)] = []
        for token in engine.step():
            assert token.sequence not in ended
            tokens[token.sequence].append(token.score)
            if token.is_last:
                ended.add(token.sequence)
        for number, after in (cancel or {}).items():
            if number in tokens and number not in ended and len(tokens[number]) >= after:
                engine.cancel(number)
                ended.add(number)
        step += 1
    return tokens


def at_random_steps(generations: Iterable[Generation], seed: int) -> dict[int, list[Generation]]:
    """Return generations by the step at which they arrive, in their order."""
    drawn, step, arrivals = random.Random(seed), 0, dict[int, list[Generation]]()
    for generation in generations:
        step += drawn.choice((0, 0, 0, 1, 1, 4))
        arrivals.setdefault(step, []).append(generation)
    return arrivals


@pytest.mark.parametrize("name", [*CAUSAL, *SEQ2SEQ])
def test_greedy_output_is_that_of_transformers(releases: Releases, name: str) -> None:
    """100 prompts of mixed lengths, which arrive at random steps."""
    generator = torch.Generator().manual_seed(1)
    cases: list[tuple[list[int], list[int]]] = []
    model = load_model(releases(name))
    for length in LENGTHS:
        shape = (PROMPTS_PER_LENGTH, length)
        prompts = torch.randint(1, VOCAB_SIZE, shape, generator=generator)
        cases += zip(prompts.tolist(), generate_greedily(model, prompts, NEW_TOKENS), strict=True)
    random.Random(2).shuffle(cases)
    generations = [
        Generation(tuple(prompt), NEW_TOKENS, GREEDY, stop_ids=frozenset([EOS]))
        for prompt, _ in cases
    ]
    found = run(scheduler(releases(name)), at_random_steps(generations, 3))
    assert [[score.id for score in found[number]] for number in range(len(cases))] == [
        ids for _, ids in cases
    ]
    distinct = len({tuple(ids) for _, ids in cases})
    assert distinct > 5, distinct


def draw_generations(data: Any) -> list[Generation]:
    """Generations of all kinds, some of which begin alike."""
    system = tuple(range(10, 30))
    sampling = st.builds(
        Sampling,
        temperature=st.sampled_from([0.0, 0.7, 1.0, 1.5]),
        top_p=st.sampled_from([1.0, 0.9, 0.5]),
        top_k=st.sampled_from([0, 1, 5, 40]),
        presence_penalty=st.sampled_from([0.0, 0.5]),
        frequency_penalty=st.sampled_from([0.0, 0.5]),
        repetition_penalty=st.sampled_from([1.0, 1.3]),
        logit_bias=st.sampled_from([(), ((7, 5.0), (8, -5.0))]),
        seed=st.integers(0, 2**64),
    )
    token = st.integers(1, VOCAB_SIZE - 1)
    prompt = st.tuples(st.booleans(), st.lists(token, min_size=1, max_size=12))
    drawn = st.builds(
        lambda start, max_new_tokens, how: Generation(
            (system if start[0] else ()) + tuple(start[1]),
            max_new_tokens,
            how,
            stop_ids=frozenset([EOS]),
        ),
        prompt,
        st.integers(1, 12),
        sampling,
    )
    found: list[Generation] = data.draw(st.lists(drawn, min_size=2, max_size=6))
    return found


@pytest.mark.parametrize("name", ["llama", "lstm", "cnn", "t5", "bahdanau"])
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_sequence_does_not_depend_on_what_runs_beside_it(
    releases: Releases, name: str, data: Any
) -> None:
    """For any arrivals, cancellations, number of slots and prefixes that are known from others."""
    generations = draw_generations(data)
    alone = []
    for generation in generations:
        (tokens,) = run(scheduler(releases(name), 1, 0), {0: [generation]}).values()
        alone.append([score.id for score in tokens])
    steps = data.draw(
        st.lists(st.integers(0, 3), min_size=len(generations), max_size=len(generations))
    )
    arrivals: dict[int, list[Generation]] = {}
    for step, generation in zip(accumulate(steps), generations, strict=True):
        arrivals.setdefault(step, []).append(generation)
    cancel = data.draw(st.dictionaries(st.integers(0, len(generations) - 1), st.integers(1, 8)))
    slots = data.draw(st.sampled_from([1, 2, 4]))
    together = run(
        scheduler(releases(name), slots, data.draw(st.sampled_from([0, 5000, 1 << 20]))),
        arrivals,
        cancel,
    )
    for number, expected in enumerate(alone):
        found = [score.id for score in together[number]]
        assert found == expected[: len(found)]
        assert len(found) == len(expected) or len(found) >= cancel[number]


@pytest.mark.parametrize("name", CAUSAL)
def test_a_logit_is_off_by_less_than_the_noise(releases: Releases, name: str) -> None:
    """Read in pieces and among others, or alone."""
    steps = causal_steps(network(releases(name)), 6)
    drawn = torch.randint(1, VOCAB_SIZE, (4, 40), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        for row, ids in enumerate(drawn.tolist()):
            steps.start(row, ids)
            for start in range(0, 40, 7):
                steps.read(row, start, ids[start : start + 7], 0)
        together = steps.step([9] * 4, [40] * 4)
        for row, ids in enumerate(drawn.tolist()):
            steps.start(5, ids)
            alone = steps.read(5, 0, [*ids, 9], 1)
            assert float((alone[0] - together[row]).abs().max()) < steps.noise / 4


class NoisySteps:
    """A model whose logits are off by as much as its noise, differently each time, but for the spare row."""

    vocab_size, noise = 50, 1e-2

    def __init__(self, rows: int) -> None:
        self._rows: list[list[int]] = [[] for _ in range(rows)]
        self._spare = rows - 2
        self._drawn = np.random.default_rng(0)

    def start(self, row: int, prompt: Sequence[int]) -> list[int]:
        self._rows[row] = []
        return list(prompt)

    def _logits(self, row: int) -> torch.Tensor:
        exact = np.random.default_rng(self._rows[row]).normal(0, 1, self.vocab_size)
        noise = self._drawn.uniform(-1, 1, self.vocab_size) * self.noise
        return torch.from_numpy(exact if row == self._spare else exact + noise).float()

    def read(self, row: int, position: int, ids: Sequence[int], wanted: int) -> torch.Tensor:
        assert position == len(self._rows[row])
        self._rows[row] += ids
        logits = [self._logits(row)] if wanted else []
        return torch.stack(logits) if logits else torch.zeros(0, self.vocab_size)

    def step(self, ids: Sequence[int], positions: Sequence[int]) -> torch.Tensor:
        pairs = enumerate(zip(ids, positions, strict=True))
        return torch.cat([self.read(row, at, [id_], 1) for row, (id_, at) in pairs])

    def move(self, source: int, target: int) -> None:
        self._rows[target] = list(self._rows[source])


@pytest.mark.parametrize(
    "sampling",
    [
        GREEDY,
        Sampling(seed=1),
        Sampling(seed=2, top_k=10, temperature=0.5),
        Sampling(seed=3, top_p=0.8),
        Sampling(seed=4, top_k=20, top_p=0.7, repetition_penalty=1.5),
    ],
)
def test_choices_that_rounding_could_change_are_made_by_exact_logits(sampling: Sampling) -> None:
    generation = Generation((1, 2, 3), 400, sampling)
    runs = [
        run(Scheduler(NoisySteps(slots + SPARE_ROWS), slots, None), {0: [generation] * slots})
        for slots in (1, 3)
    ]
    first, *others = ([score.id for score in tokens] for found in runs for tokens in found.values())
    assert all(tokens == first for tokens in others)


def test_a_prompt_that_begins_as_another_is_not_read_again(releases: Releases) -> None:
    engine = scheduler(releases("llama"))
    system = tuple(range(1, 31))
    run(engine, {0: [Generation((*system, 40), 4, GREEDY)]})
    assert engine.load().cached_tokens == 0
    run(engine, {0: [Generation((*system, 41, 42), 4, GREEDY)]})
    assert engine.load().cached_tokens == 30
    run(
        engine, {0: [Generation((*system, 40), 4, GREEDY)]}
    )  # all but the last, whose logits are wanted
    assert engine.load().cached_tokens == 60
    assert engine.load().prompt_tokens == 31 + 32 + 31
    other = tuple(range(51, 81))
    run(engine, {0: [Generation((*other, last), 4, GREEDY) for last in (1, 2, 3)]})
    assert engine.load().cached_tokens == 60 + 2 * 30


def test_the_prefix_cache_stays_within_its_memory(releases: Releases) -> None:
    steps = causal_steps(network(releases("llama")), 3)
    cache = PrefixCache(steps, 60_000)
    for first in range(20):
        cache.store(0, range(first, first + 30))
        assert 0 < cache.size <= 60_000
    assert cache.restore(1, [*range(19, 49), 7]) == 30
    assert cache.restore(1, [*range(30), 7]) == 0  # the oldest is gone


def test_a_long_prompt_does_not_stop_the_others(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.engines.batched.scheduler.CHUNK_BESIDE_OTHERS", 4)
    engine = scheduler(releases("llama"))
    engine.submit(0, Generation((1,), 30, GREEDY))
    assert [token.sequence for token in engine.step()] == [0, 0]  # of the prompt, and of a step
    engine.submit(1, Generation(tuple(range(1, 41)), 5, GREEDY))
    for _ in range(9):
        assert [token.sequence for token in engine.step()] == [0]
    assert {token.sequence for token in engine.step()} == {0, 1}


def test_counted_models_generate_as_they_are_scored() -> None:
    documents = [[1, 2, 6, 4, 5, 1, 2, 4] * 3, [2, 6, 5, 1, 1, 2, 6, 0]] * 2
    counted = test_ngram.model([[*ids, test_ngram.EOS] for ids in documents], 3)
    reference = NgramLanguageModel(counted)
    engine = Scheduler(NgramSteps(counted, 4 + SPARE_ROWS), 4, None)
    prompts = [(1,), (2, 6), (5, 1, 2), (4, 4, 4), (1, 2, 6, 4, 5)]
    config = GenerationConfig(12, 0.0, counted.vocab_size)
    expected = reference.generate([np.array(ids) for ids in prompts], [0] * 5, config)
    generations = [
        Generation(ids, 12, GREEDY, stop_ids=frozenset([counted.eos])) for ids in prompts
    ]
    found = run(engine, at_random_steps(generations, 1))
    assert [[score.id for score in found[number]] for number in range(5)] == expected
    ids = [1, 2, 6, 5, 1]
    scores = [score for piece in engine.score(ids, 2) for score in piece]
    nats = counted.score(np.array(ids))
    assert [score.logprob for score in scores[1:]] == pytest.approx((-nats[1:]).tolist())
