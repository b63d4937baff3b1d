"""In which order a stream's rows are taken: a pure function of the seed and a running number.

A stream is a number of rows: windows of the training split, or packed rows. Every epoch takes every
row once, in an order that a keyed permutation gives without a table, so that any step of any epoch
is found at once, on any number of processes, and so is the way back from a row to its steps.

A stream that is too long to be kept at hand is taken in pools. Blocks of consecutive rows are
permuted, the blocks in their new order make up pools, and rows are permuted inside their pool: what
is read at a time are a few thousand blocks, not single rows from everywhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from infra.errors import UserError
from infra.dataset.fingerprint import digest
from lm.data.splitmix import mix

ROUNDS = 6  # Luby & Rackoff 1988 need four for a permutation that passes for a random one
Indices = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
Change = Callable[[Indices, Keys, int], Indices]
Ranges = Sequence[Sequence[int]]


class TooFewTokens(UserError):
    """A corpus shorter than one window."""


@dataclass(frozen=True)
class Order:
    """The order of one stream.

    Attributes:
        seed: the recipe's.
        rows: number of rows in the stream.
        stream: what tells this stream's order from another's; empty for the only one.
        block: consecutive rows that stay together on their way into a pool.
        pool: blocks of a pool; 0: the whole stream is one.
    """

    seed: int
    rows: int
    stream: str = ""
    block: int = 1
    pool: int = 0

    def at(self, numbers: Indices) -> Indices:
        """The rows with these running numbers: number ``n`` is in epoch ``n // rows``."""
        result = np.empty(len(numbers), np.int64)
        epochs = numbers // self.rows
        for epoch in np.unique(epochs).tolist():
            mine = epochs == epoch
            result[mine] = self._epoch(epoch).at(numbers[mine] % self.rows)
        return result

    def numbers_of(self, rows: Indices, end: int) -> Indices:
        """The running numbers below ``end`` that take any of these rows, ascending."""
        epochs = range(-(-end // self.rows))
        found = [epoch * self.rows + self._epoch(epoch).places(rows) for epoch in epochs]
        numbers = np.sort(np.concatenate([np.zeros(0, np.int64), *found]))
        return numbers[numbers < end]

    def _epoch(self, epoch: int) -> "_Whole | _Pooled":
        name = ("order", self.seed, epoch, *((self.stream,) if self.stream else ()))
        if not self.pool or self.pool * self.block >= self.rows:
            return _Whole(name, self.rows)
        return _Pooled(name, self.rows, self.block, self.pool)


@dataclass(frozen=True)
class _Whole:
    """An epoch as one permutation."""

    name: tuple[str | int, ...]
    rows: int

    def at(self, places: Indices) -> Indices:
        return permute(places, keys(self.name), self.rows)

    def places(self, rows: Indices) -> Indices:
        return restore(rows, keys(self.name), self.rows)


@dataclass(frozen=True)
class _Pooled:
    """An epoch in pools of blocks.

    The last block may be shorter than the others and stands anywhere among them, at ``_short``.
    """

    name: tuple[str | int, ...]
    rows: int
    block: int
    pool: int

    def at(self, places: Indices) -> Indices:
        spots = self._inside(places, permute)
        turns = self._turn(spots)
        blocks = permute(turns, keys(self.name), self._blocks)
        return blocks * self.block + spots - self._first(turns)

    def places(self, rows: Indices) -> Indices:
        turns = restore(rows // self.block, keys(self.name), self._blocks)
        return self._inside(self._first(turns) + rows % self.block, restore)

    def _inside(self, places: Indices, change: Change) -> Indices:
        """Places permuted, or restored, each inside its pool."""
        result = np.empty_like(places)
        pools = self._turn(places) // self.pool
        for pool in np.unique(pools).tolist():
            ends = np.minimum(np.array([pool, pool + 1]) * self.pool, self._blocks)
            first, end = self._first(ends).tolist()
            mine = pools == pool
            own = keys((*self.name, "pool", pool))
            result[mine] = first + change(places[mine] - first, own, end - first)
        return result

    @property
    def _blocks(self) -> int:
        return -(-self.rows // self.block)

    @property
    def _missing(self) -> int:
        """Rows that the last block lacks."""
        return self._blocks * self.block - self.rows

    @property
    def _short(self) -> int:
        """The turn of the last block."""
        return _turn_of_last(self.name, self._blocks)

    def _first(self, turns: Indices) -> Indices:
        """The place at which a block's turn begins."""
        return turns * self.block - np.where(turns > self._short, self._missing, 0)

    def _turn(self, places: Indices) -> Indices:
        """The turn of the block that a place lies in."""
        behind = places >= (self._short + 1) * self.block - self._missing
        return np.where(behind, places + self._missing, places) // self.block


@lru_cache(maxsize=4096)
def _turn_of_last(name: tuple[str | int, ...], blocks: int) -> int:
    return int(restore(np.array([blocks - 1]), keys(name), blocks)[0])


def count_windows(tokens: int, context: int) -> int:
    """Windows in so many tokens. Raises ``TooFewTokens`` if there is not one."""
    if tokens <= context:
        raise TooFewTokens(
            f"the training split has {tokens} tokens; a context of {context} needs {context + 1}"
        )
    return (tokens - 1) // context


def batch_of(step: int, skip: Ranges) -> int:
    """The batch that a step learns from: the ``step``-th of those that are not skipped.

    Args:
        step: 0-based.
        skip: half-open ranges of batches that are left out; they may overlap.
    """
    batch = step
    for first, end in merged(skip):
        if batch < first:
            break
        batch += end - first
    return batch


def step_of(batch: int, skip: Ranges) -> int | None:
    """The step that learns from a batch; ``None`` if it is skipped."""
    step = batch
    for first, end in merged(skip):
        if batch < first:
            break
        if batch < end:
            return None
        step -= end - first
    return step


def merged(ranges: Ranges) -> list[tuple[int, int]]:
    """The same numbers as ascending ranges with gaps between them."""
    result: list[tuple[int, int]] = []
    for first, end in sorted((int(one[0]), int(one[1])) for one in ranges):
        if first >= end:
            continue
        if result and first <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((first, end))
    return result


@lru_cache(maxsize=4096)
def keys(name: tuple[str | int, ...]) -> Keys:
    """The round keys of the permutation of this name."""
    raw = bytes.fromhex(digest(list(name)))
    return np.frombuffer(raw * 2, dtype="<u8", count=ROUNDS).astype(np.uint64)


def keys_by_number(base: Keys, numbers: Indices) -> Keys:
    """Round keys for each of some numbers, uint64[ROUNDS, n], where a digest each costs too much."""
    return mix(numbers.astype(np.uint64)[None, :], base[:, None])


def permute(values: Indices, round_keys: Keys, size: int) -> Indices:
    """A permutation of ``range(size)``, applied to some of its members.

    A Feistel network over the least even number of bits that holds ``size``, walked on while its
    result lies outside (Black & Rogaway 2002, "Ciphers with arbitrary finite domains").

    Args:
        values: int64[n].
        round_keys: uint64[ROUNDS], or uint64[ROUNDS, n] for a permutation of each value's own.
        size: of the range.
    """
    return _walk(values, round_keys, size, forward=True)


def restore(values: Indices, round_keys: Keys, size: int) -> Indices:
    """The inverse of ``permute``."""
    return _walk(values, round_keys, size, forward=False)


def _walk(values: Indices, round_keys: Keys, size: int, *, forward: bool) -> Indices:
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    current = _network(values.astype(np.uint64), round_keys, half, forward=forward)
    outside = current >= size
    while outside.any():
        own = round_keys if round_keys.ndim == 1 else round_keys[:, outside]
        current[outside] = _network(current[outside], own, half, forward=forward)
        outside = current >= size
    return current.astype(np.int64)


def _network(
    values: npt.NDArray[np.uint64], round_keys: Keys, half: np.uint64, *, forward: bool
) -> npt.NDArray[np.uint64]:
    mask = np.uint64((1 << int(half)) - 1)
    left, right = values >> half, values & mask
    if forward:
        for key in round_keys:
            left, right = right, left ^ (mix(right, key) & mask)
    else:
        for key in round_keys[::-1]:
            left, right = right ^ (mix(left, key) & mask), left
    return (left << half) | right
