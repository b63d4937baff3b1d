"""Choose tokens such that a sequence does not depend on what is computed beside it.

A logit depends on the other rows of its batch by rounding, up to ``StepModel.noise``. So ``choose`` says whether a
choice would be the same for all logits within that noise. If not (the best two are as close as that), the
caller computes the logits in a way that depends on the sequence alone, and chooses by those.

A sample is the token with the largest logit / temperature - ln(e), where e are draws from the exponential
distribution, one per token (Gumbel 1954). They follow from the request's seed and the place of the token: a change
of the logits by rounding changes the sample only if the two largest are that close, however many tokens there are.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from infra.compute.arrays import F32
from serve.engines.interface import Sampling

SEED_MASK = (1 << 64) - 1
SUM_ERROR = 1e-12  # of probabilities in fp64

Mask = npt.NDArray[np.bool_]


@dataclass
class SamplingState:
    """How to sample one sequence, and the tokens that its penalties are about.

    Attributes:
        sampling: the request's.
        prompt: its ids.
        generated: how often each id was generated.
        count: number of generated tokens.
    """

    sampling: Sampling
    prompt: frozenset[int]
    generated: Counter[int]
    count: int = 0

    @property
    def edits_logits(self) -> bool:
        """Whether logits are changed before a token is chosen."""
        s = self.sampling
        return bool(
            s.presence_penalty or s.frequency_penalty or s.repetition_penalty != 1 or s.logit_bias
        )

    def add(self, id_: int) -> None:
        """Note a generated token."""
        self.generated[id_] += 1
        self.count += 1


@dataclass(frozen=True)
class Choice:
    """A token, and whether it would be the same for all logits within the noise."""

    id: int
    is_certain: bool


def exponential_draws(seed: int, index: int, count: int) -> F32:
    """Return the random numbers of a token, float32[count], of the exponential distribution."""
    bits = np.random.Philox(key=np.array([seed & SEED_MASK, index], np.uint64))
    return np.random.Generator(bits).standard_exponential(count, dtype=np.float32)


def edit_logits(logits_v: Tensor, state: SamplingState) -> Tensor:
    """Return logits after penalties and bias, float[V]; see ``Sampling``."""
    s = state.sampling
    logits_v = logits_v.clone()
    if s.repetition_penalty != 1:
        known = torch.tensor(sorted(state.prompt | state.generated.keys()))
        before = logits_v[known]
        scaled = before * s.repetition_penalty, before / s.repetition_penalty
        logits_v[known] = torch.where(before < 0, *scaled)
    if state.generated and (s.presence_penalty or s.frequency_penalty):
        ids = torch.tensor(list(state.generated))
        counts = torch.tensor(list(state.generated.values()), dtype=logits_v.dtype)
        logits_v[ids] -= s.presence_penalty + s.frequency_penalty * counts
    if s.logit_bias:
        biased, values = zip(*s.logit_bias, strict=True)
        logits_v[torch.tensor(biased)] += torch.tensor(values, dtype=logits_v.dtype)
    return logits_v


def choose(logits_bv: Tensor, states: Sequence[SamplingState], noise: float) -> list[Choice]:
    """Choose the next token of each row.

    Args:
        logits_bv: float[B, V].
        states: of the rows.
        noise: how much a logit may be off; 0: choices are certain.
    """
    edited = [number for number, state in enumerate(states) if state.edits_logits]
    if edited:
        logits_bv = logits_bv.clone()
        for number in edited:
            logits_bv[number] = edit_logits(logits_bv[number], states[number])
    greedy = [number for number, state in enumerate(states) if state.sampling.temperature == 0]
    choices: list[Choice | None] = [None] * len(states)
    if greedy:
        own = logits_bv if len(greedy) == len(states) else logits_bv[greedy]
        for number, choice in zip(greedy, _choose_best(own, states, greedy, noise), strict=True):
            choices[number] = choice
    logits = logits_bv.numpy()
    return [
        _sample(logits[number], states[number], noise) if choice is None else choice
        for number, choice in enumerate(choices)
    ]


def _choose_best(
    logits_bv: Tensor, states: Sequence[SamplingState], rows: Sequence[int], noise: float
) -> list[Choice]:
    """Return the most likely tokens; of equal ones the first."""
    if noise == 0:
        return [Choice(id_, is_certain=True) for id_ in logits_bv.argmax(-1).tolist()]
    values, ids = logits_bv.topk(min(2, logits_bv.shape[1]), dim=-1)
    return [
        Choice(first[0], is_certain=value[0] - value[-1] > 2 * _amplify(states[row], noise))
        for row, first, value in zip(rows, ids.tolist(), values.tolist(), strict=True)
    ]


def _amplify(state: SamplingState, noise: float) -> float:
    """Return how much an edited logit may be off."""
    penalty = state.sampling.repetition_penalty
    return noise * max(penalty, 1 / penalty)


def _sample(logits_v: F32, state: SamplingState, noise: float) -> Choice:
    """Draw a token in proportion to exp(logit / temperature) among those of ``top_k`` and ``top_p``."""
    s = state.sampling
    slack = 2 * _amplify(state, noise) / s.temperature
    scaled_v = logits_v / np.float32(s.temperature)
    draws_v = exponential_draws(s.seed, state.count, len(scaled_v))
    with np.errstate(divide="ignore"):  # a draw of zero wins
        score_v = scaled_v - np.log(draws_v)
    top_k = s.top_k if 0 < s.top_k < len(scaled_v) else len(scaled_v)
    in_doubt = np.zeros(len(scaled_v), bool)
    if top_k < len(scaled_v) or s.top_p < 1:
        floor, in_doubt = _find_floor(scaled_v, top_k, s.top_p, slack)
        kept_v = np.where(scaled_v < floor, -np.inf, score_v)
    else:
        kept_v = score_v
    best = int(kept_v.argmax())
    if slack == 0:
        return Choice(best, is_certain=True)
    if in_doubt[best]:
        return Choice(best, is_certain=False)
    rivals_v = kept_v.copy()
    rivals_v[in_doubt] = score_v[in_doubt]
    rivals_v[best] = -np.inf
    return Choice(best, is_certain=bool(score_v[best] - rivals_v.max() > slack))


def _find_floor(scaled_v: F32, top_k: int, top_p: float, slack: float) -> tuple[float, Mask]:
    """Return the least logit that is kept, and the tokens of which it is not certain whether they are, bool[V].

    ``top_p`` is a fraction of what ``top_k`` leaves; of equal logits at the end all are kept.
    """
    values = np.sort(scaled_v)[::-1]
    first_end = kept_end = last_end = (
        top_k - 1
    )  # the last rank that is kept: at least, here, at most
    if top_p < 1:
        ends = np.exp(values[:top_k].astype(np.float64) - float(values[0])).cumsum()
        ends /= ends[-1]
        # Logits that differ by up to ``slack`` change the odds of a sum by a factor of up to exp(slack).
        odds = top_p / (1 - top_p)
        low, high = (odds * factor / (1 + odds * factor) for factor in np.exp([-slack, slack]))
        bounds = np.searchsorted(ends, [low - SUM_ERROR, top_p, high + SUM_ERROR])
        first_end, kept_end, last_end = np.minimum(bounds, top_k - 1).tolist()
    floor = float(values[kept_end])
    if slack == 0 or first_end + 1 == len(values):
        return floor, np.zeros(len(values), bool)
    # Those before may fall behind the first that may be cut, those after overtake the last that may be kept.
    most, least = values[first_end + 1] + slack, values[last_end] - slack
    return floor, (scaled_v <= most) & (scaled_v >= least)
