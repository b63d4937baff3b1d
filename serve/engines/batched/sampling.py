"""Choose tokens such that a sequence does not depend on what is computed beside it.

A logit depends on the other rows of its batch by rounding, up to ``StepModel.noise``. So ``choose`` says whether a
choice would be the same for all logits within that noise. If not (the best two tokens are as close as that,
or the random number is as close to a border), the caller computes the logits in a way that depends on the
sequence alone, and chooses by those. The random number of a token follows from the request's seed and the token's
place.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from serve.engines.interface import Sampling

MASK = (1 << 64) - 1
CANDIDATES = 256  # of the most likely tokens are sorted first: sorting all takes ten times as long


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


def uniform(seed: int, index: int) -> float:
    """Return the random number of a token in [0, 1): SplitMix64 (Steele et al. 2014) of seed and index."""
    value = _mix((_mix(seed & MASK) + index * 0x9E3779B97F4A7C15) & MASK)
    return (value >> 11) / (1 << 53)


def _mix(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


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
    return [
        _sample(logits_bv[number], states[number], noise) if choice is None else choice
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


def _sample(logits_v: Tensor, state: SamplingState, noise: float) -> Choice:
    """Draw a token in proportion to exp(logit / temperature) among those of ``top_k`` and ``top_p``.

    Their probabilities are added up in the order of ids, so that two of almost equal probability do not
    change places.
    """
    s, vocab_size = state.sampling, len(logits_v)
    slack = 2 * _amplify(state, noise) / s.temperature
    scaled_v = logits_v.double() / s.temperature
    p_v = torch.softmax(scaled_v, 0)
    doubtful = 0.0  # probability of tokens of which it is not certain whether they are among those
    top_k = s.top_k if 0 < s.top_k < vocab_size else vocab_size
    if top_k < vocab_size or s.top_p < 1:
        floor, doubtful = _find_floor(scaled_v, p_v, top_k, s.top_p, slack)
        p_v = p_v.masked_fill(scaled_v < floor, 0)
    ends_v = p_v.cumsum(0)
    total = float(ends_v[-1])
    target = uniform(s.seed, state.count) * total
    id_ = int(torch.searchsorted(ends_v, target, right=True))
    end = float(ends_v[min(id_, vocab_size - 1)])
    if id_ >= vocab_size or p_v[id_] == 0:  # rounding at the very end
        id_ = int(p_v.nonzero()[-1])
        end = total
    margin = min(target - (end - float(p_v[id_])), end - target) / total
    return Choice(id_, is_certain=slack == 0 or margin > slack + doubtful / total)


def _find_floor(
    scaled_v: Tensor, p_v: Tensor, top_k: int, top_p: float, slack: float
) -> tuple[float, float]:
    """Return the least logit that is kept, and the probability of all tokens of which that is in doubt.

    ``top_p`` is a fraction of what ``top_k`` leaves.
    """
    count = min(len(scaled_v), max(CANDIDATES, top_k + 1 if top_k < len(scaled_v) else 0))
    best, order = scaled_v.topk(count)
    ends = p_v[order].cumsum(0)
    allowed = ends[min(top_k, count) - 1] if top_k < len(scaled_v) else p_v.sum()
    needed = float(allowed) * top_p
    if top_p < 1 and float(ends[-1]) < needed:
        best, order = scaled_v.sort(descending=True)
        ends = p_v[order].cumsum(0)
    kept = min(top_k, len(best))
    if top_p < 1:
        kept = min(kept, int((ends < needed).sum()) + 1)
    floor = float(best[kept - 1])
    if slack == 0:
        return floor, 0.0
    in_doubt = (best - floor).abs() <= slack
    in_doubt[kept - 1] = False
    if kept < len(best):
        in_doubt |= (
            (best - best[kept]).abs() <= slack if float(best[kept]) >= floor - slack else False
        )
    if top_p < 1:
        # The sum up to a token is off by at most half the slack: then one more or one less is kept.
        near = (ends - needed).abs() <= slack
        for place in near.nonzero().flatten().tolist():
            in_doubt[place] = True
            in_doubt[min(place + 1, len(best) - 1)] = True
    return floor, float(p_v[order][in_doubt].sum())
