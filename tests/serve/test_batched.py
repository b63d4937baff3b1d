"""Every family that generates, in the batched engine without its process: the same tokens as transformers'."""

import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest
import torch

from lm.models.hf_auto import load_model
from serve.engines.batched.loading import load_worker_model
from serve.engines.batched.scheduler import Scheduler
from serve.engines.interface import Generation, Sampling, TokenScore
from tests.serve.released import CAUSAL, EOS, SEQ2SEQ, VOCAB_SIZE, Releases

LENGTHS, PROMPTS_PER_LENGTH, NEW_TOKENS = (1, 5, 17, 40), 25, 20
GREEDY = Sampling(temperature=0)


def scheduler(folder: Path, slots: int = 8, cache_bytes: int = 1 << 20) -> Scheduler:
    found, _, _ = load_worker_model(folder, slots, cache_bytes)
    assert found is not None
    return found


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


def greedy_reference(folder: Path, prompts: torch.Tensor) -> list[list[int]]:
    """Return what transformers generate, up to the end of text."""
    model = load_model(folder)
    with torch.no_grad():
        made = model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            pad_token_id=EOS,
        ).tolist()
    read = 1 if model.config.is_encoder_decoder else prompts.shape[1]
    return [until_end(ids[read:]) for ids in made]


def until_end(ids: list[int]) -> list[int]:
    return ids[: ids.index(EOS) + 1] if EOS in ids else ids


@pytest.mark.parametrize("name", [*CAUSAL, *SEQ2SEQ])
def test_greedy_output_is_that_of_transformers(releases: Releases, name: str) -> None:
    """100 prompts of mixed lengths, which arrive at random steps."""
    generator = torch.Generator().manual_seed(1)
    cases: list[tuple[list[int], list[int]]] = []
    for length in LENGTHS:
        shape = (PROMPTS_PER_LENGTH, length)
        prompts = torch.randint(1, VOCAB_SIZE, shape, generator=generator)
        cases += zip(prompts.tolist(), greedy_reference(releases(name), prompts), strict=True)
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
