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
from infra.dataset.fingerprint import json_sha256
from infra.dataset.mixers import splitmix64

FEISTEL_ROUNDS = 6  # Luby & Rackoff 1988 need four for a permutation that passes for a random one
Indices = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
Permutation = Callable[[Indices, Keys, int], Indices]
Ranges = Sequence[Sequence[int]]


class TooFewTokensError(UserError):
    """A corpus shorter than one window."""


@dataclass(frozen=True)
class ShuffleOrder:
    """The order of one stream.

    Attributes:
        seed: the recipe's.
        rows: number of rows in the stream.
        source: what tells this stream's order from another's; empty for the only one.
        block_rows: consecutive rows that stay together on their way into a pool.
        window_blocks: blocks of a pool; 0: the whole stream is one.
    """

    seed: int
    rows: int
    source: str = ""
    block_rows: int = 1
    window_blocks: int = 0

    def rows_at(self, indices: Indices) -> Indices:
        """The rows with these running numbers: number ``n`` is in epoch ``n // rows``."""
        result = np.empty(len(indices), np.int64)
        epochs = indices // self.rows
        for epoch in np.unique(epochs).tolist():
            mine = epochs == epoch
            result[mine] = self._epoch(epoch).rows_at(indices[mine] % self.rows)
        return result

    def inverse(self, rows: Indices, end: int) -> Indices:
        """The running numbers below ``end`` that take any of these rows, ascending."""
        epochs = range(-(-end // self.rows))
        found = [epoch * self.rows + self._epoch(epoch).inverse(rows) for epoch in epochs]
        numbers = np.sort(np.concatenate([np.zeros(0, np.int64), *found]))
        return numbers[numbers < end]

    def _epoch(self, epoch: int) -> "_FullEpoch | _WindowedEpoch":
        name = ("order", self.seed, epoch, *((self.source,) if self.source else ()))
        if not self.window_blocks or self.window_blocks * self.block_rows >= self.rows:
            return _FullEpoch(name, self.rows)
        return _WindowedEpoch(name, self.rows, self.block_rows, self.window_blocks)


@dataclass(frozen=True)
class _FullEpoch:
    """An epoch as one permutation."""

    name: tuple[str | int, ...]
    rows: int

    def rows_at(self, indices: Indices) -> Indices:
        return permute(indices, derive_round_keys(self.name), self.rows)

    def inverse(self, rows: Indices) -> Indices:
        return unpermute(rows, derive_round_keys(self.name), self.rows)


@dataclass(frozen=True)
class _WindowedEpoch:
    """An epoch in pools of blocks.

    The last block may be shorter than the others and stands anywhere among them, at ``_last_block_slot``.
    """

    name: tuple[str | int, ...]
    rows: int
    block_rows: int
    window_blocks: int

    def rows_at(self, indices: Indices) -> Indices:
        spots = self._permute_within_windows(indices, permute)
        turns = self._slot_at(spots)
        blocks = permute(turns, derive_round_keys(self.name), self._blocks)
        return blocks * self.block_rows + spots - self._slot_start(turns)

    def inverse(self, rows: Indices) -> Indices:
        turns = unpermute(rows // self.block_rows, derive_round_keys(self.name), self._blocks)
        return self._permute_within_windows(self._slot_start(turns) + rows % self.block_rows, unpermute)

    def _permute_within_windows(self, indices: Indices, permutation: Permutation) -> Indices:
        """Places permuted, or restored, each inside its pool."""
        result = np.empty_like(indices)
        pools = self._slot_at(indices) // self.window_blocks
        for pool in np.unique(pools).tolist():
            ends = np.minimum(np.array([pool, pool + 1]) * self.window_blocks, self._blocks)
            first, end = self._slot_start(ends).tolist()
            mine = pools == pool
            own = derive_round_keys((*self.name, "pool", pool))
            result[mine] = first + permutation(indices[mine] - first, own, end - first)
        return result

    @property
    def _blocks(self) -> int:
        return -(-self.rows // self.block_rows)

    @property
    def _last_block_deficit(self) -> int:
        """Rows that the last block lacks."""
        return self._blocks * self.block_rows - self.rows

    @property
    def _last_block_slot(self) -> int:
        """The turn of the last block."""
        return _find_last_block_slot(self.name, self._blocks)

    def _slot_start(self, slots: Indices) -> Indices:
        """The place at which a block's turn begins."""
        return slots * self.block_rows - np.where(slots > self._last_block_slot, self._last_block_deficit, 0)

    def _slot_at(self, indices: Indices) -> Indices:
        """The turn of the block that a place lies in."""
        behind = indices >= (self._last_block_slot + 1) * self.block_rows - self._last_block_deficit
        return np.where(behind, indices + self._last_block_deficit, indices) // self.block_rows


@lru_cache(maxsize=4096)
def _find_last_block_slot(name: tuple[str | int, ...], blocks: int) -> int:
    return int(unpermute(np.array([blocks - 1]), derive_round_keys(name), blocks)[0])


def count_rows(tokens: int, context_length: int) -> int:
    """Windows in so many tokens. Raises ``TooFewTokensError`` if there is not one."""
    if tokens <= context_length:
        raise TooFewTokensError(
            f"the training split has {tokens} tokens; a context of {context_length} needs {context_length + 1}"
        )
    return (tokens - 1) // context_length


def batch_for_step(step: int, skip: Ranges) -> int:
    """The batch that a step learns from: the ``step``-th of those that are not skipped.

    Args:
        step: 0-based.
        skip: half-open ranges of batches that are left out; they may overlap.
    """
    batch = step
    for first, end in merge_ranges(skip):
        if batch < first:
            break
        batch += end - first
    return batch


def step_for_batch(batch: int, skip: Ranges) -> int | None:
    """The step that learns from a batch; ``None`` if it is skipped."""
    step = batch
    for first, end in merge_ranges(skip):
        if batch < first:
            break
        if batch < end:
            return None
        step -= end - first
    return step


def merge_ranges(ranges: Ranges) -> list[tuple[int, int]]:
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
def derive_round_keys(name: tuple[str | int, ...]) -> Keys:
    """The round keys of the permutation of this name."""
    raw = bytes.fromhex(json_sha256(list(name)))
    return np.frombuffer(raw * 2, dtype="<u8", count=FEISTEL_ROUNDS).astype(np.uint64)


def derive_round_keys_each(base: Keys, numbers: Indices) -> Keys:
    """Round keys for each of some numbers, uint64[ROUNDS, n], where a digest each costs too much."""
    return splitmix64(numbers.astype(np.uint64)[None, :], base[:, None])


def permute(values: Indices, round_keys: Keys, size: int) -> Indices:
    """A permutation of ``range(size)``, applied to some of its members.

    A Feistel network over the least even number of bits that holds ``size``, walked on while its
    result lies outside (Black & Rogaway 2002, "Ciphers with arbitrary finite domains").

    Args:
        values: int64[n].
        round_keys: uint64[ROUNDS], or uint64[ROUNDS, n] for a permutation of each value's own.
        size: of the range.
    """
    return _cycle_walk(values, round_keys, size, forward=True)


def unpermute(values: Indices, round_keys: Keys, size: int) -> Indices:
    """The inverse of ``permute``."""
    return _cycle_walk(values, round_keys, size, forward=False)


def _cycle_walk(values: Indices, round_keys: Keys, size: int, *, forward: bool) -> Indices:
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    current = _feistel(values.astype(np.uint64), round_keys, half, forward=forward)
    outside = current >= size
    while outside.any():
        own = round_keys if round_keys.ndim == 1 else round_keys[:, outside]
        current[outside] = _feistel(current[outside], own, half, forward=forward)
        outside = current >= size
    return current.astype(np.int64)


def _feistel(
    values: npt.NDArray[np.uint64], round_keys: Keys, half_bits: np.uint64, *, forward: bool
) -> npt.NDArray[np.uint64]:
    mask = np.uint64((1 << int(half_bits)) - 1)
    left, right = values >> half_bits, values & mask
    if forward:
        for key in round_keys:
            left, right = right, left ^ (splitmix64(right, key) & mask)
    else:
        for key in round_keys[::-1]:
            left, right = right ^ (splitmix64(left, key) & mask), left
    return (left << half_bits) | right
