"""Which tokens a step learns from: a pure function of seed, epoch, step and position, both ways.

The training split is one sequence of tokens. Window ``w`` is its tokens ``[w T, w T + T]`` for a
context of T: T inputs, and the T tokens that follow each of them. Every epoch takes every window
once, in an order that a keyed permutation gives without a table, so that any step of any epoch is
found at once, on any number of processes, and so is the way back from a token to its steps.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from infra.dataset import Dataset
from infra.errors import UserError
from infra.fingerprint import digest

ROUNDS = 6  # Luby & Rackoff 1988 need four for a permutation that passes for a random one
Indices = npt.NDArray[np.int64]


class TooFewTokens(UserError):
    """A corpus shorter than one window."""


@dataclass(frozen=True)
class Order:
    """The order of one run.

    Attributes:
        seed: the recipe's.
        windows: number of windows in the training split.
        batch: windows per step, over all processes.
    """

    seed: int
    windows: int
    batch: int

    def at(self, step: int) -> Indices:
        """The windows of a 0-based step: int64[batch], by position in the batch."""
        sample = np.arange(step * self.batch, (step + 1) * self.batch, dtype=np.int64)
        epochs = sample // self.windows
        result = np.empty(self.batch, np.int64)
        for epoch in np.unique(epochs):
            mine = epochs == epoch
            result[mine] = permute(sample[mine] % self.windows, self._keys(epoch), self.windows)
        return result

    def steps_of(self, windows: Indices, steps: int) -> Indices:
        """The steps below ``steps`` that take any of these windows: ascending, each once."""
        found = [np.zeros(0, np.int64)]
        for epoch in range(-(-steps * self.batch // self.windows)):
            place = restore(windows, self._keys(epoch), self.windows)
            found.append((epoch * self.windows + place) // self.batch)
        every = np.unique(np.concatenate(found))
        return every[every < steps]

    def _keys(self, epoch: int) -> npt.NDArray[np.uint64]:
        raw = bytes.fromhex(digest(["order", self.seed, int(epoch)]))
        return np.frombuffer(raw * 2, dtype="<u8", count=ROUNDS).astype(np.uint64)


def count_windows(tokens: int, context: int) -> int:
    """Windows in a split of so many tokens. Raises ``TooFewTokens`` if there is not one."""
    if tokens <= context:
        raise TooFewTokens(
            f"the training split has {tokens} tokens; a context of {context} needs {context + 1}"
        )
    return (tokens - 1) // context


def steps_that_saw(model: Dataset, first: int, end: int) -> list[int]:
    """The steps (0-based) whose batches held any of the tokens ``[first, end)``.

    Args:
        model: a data set of the ``train`` stage.
        first: index of a token in the training split, over all its shards.
        end: one past the last.
    """
    facts: Any = model.facts
    context, windows = facts["context"], facts["windows"]
    # A token that starts a window is also the last target of the window before.
    touched = np.arange(max(0, (first - 1) // context), min(windows, (end - 1) // context + 1))
    if end <= first or not len(touched):
        return []
    order = Order(facts["seed"], windows, facts["batch"])
    return [int(step) for step in order.steps_of(touched, facts["steps"])]


def permute(values: Indices, keys: npt.NDArray[np.uint64], size: int) -> Indices:
    """A permutation of ``range(size)``, applied to some of its members.

    A Feistel network over the least even number of bits that holds ``size``, walked on while its
    result lies outside (Black & Rogaway 2002, "Ciphers with arbitrary finite domains").
    """
    return _walk(values, keys, size, forward=True)


def restore(values: Indices, keys: npt.NDArray[np.uint64], size: int) -> Indices:
    """The inverse of ``permute``."""
    return _walk(values, keys, size, forward=False)


def _walk(values: Indices, keys: npt.NDArray[np.uint64], size: int, *, forward: bool) -> Indices:
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    current = _network(values.astype(np.uint64), keys, half, forward=forward)
    outside = current >= size
    while outside.any():
        current[outside] = _network(current[outside], keys, half, forward=forward)
        outside = current >= size
    return current.astype(np.int64)


def _network(
    values: npt.NDArray[np.uint64],
    keys: npt.NDArray[np.uint64],
    half: np.uint64,
    *,
    forward: bool,
) -> npt.NDArray[np.uint64]:
    mask = np.uint64((1 << int(half)) - 1)
    left, right = values >> half, values & mask
    if forward:
        for key in keys:
            left, right = right, left ^ (_mix(right, key) & mask)
    else:
        for key in keys[::-1]:
            left, right = right ^ (_mix(left, key) & mask), left
    return (left << half) | right


def _mix(values: npt.NDArray[np.uint64], key: np.uint64) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele et al. 2014), keyed."""
    x = values ^ key
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: npt.NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return mixed
