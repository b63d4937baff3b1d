"""The order of a row source's rows: a pure function of the seed and an index.

A row source has rows by number: cut from the concatenated training split, or packed. Every epoch
takes every row once, in an order that a keyed permutation computes without a table. So the rows of
any step of any epoch, and the steps of any row, are computed directly, on any number of processes.

A row source that is too long to be held in memory is shuffled in windows. Blocks of consecutive rows
are permuted, the blocks in their new order form windows, and rows are permuted inside their window:
at any time a few thousand blocks are read, not single rows from everywhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from infra.dataset.fingerprint import json_sha256
from infra.dataset.mixers import splitmix64
from infra.errors import UserError

FEISTEL_ROUNDS = 6  # Luby & Rackoff 1988: four make a pseudorandom permutation
Indices = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
Permutation = Callable[[Indices, Keys, int], Indices]
Ranges = Sequence[Sequence[int]]


class TooFewTokensError(UserError):
    """A corpus shorter than one row."""


@dataclass(frozen=True)
class ShuffleOrder:
    """The order of one row source of ``rows`` rows."""

    seed: int
    rows: int
    source: str = ""  # name of the row source if there are several
    block_rows: int = 1  # consecutive rows that are moved into a window together
    window_blocks: int = 0  # blocks of a window; 0: all rows form one window

    def rows_at(self, indices: Indices) -> Indices:
        """Return the rows at some indices; index ``i`` is in epoch ``i // rows``."""
        result = np.empty(len(indices), np.int64)
        epochs = indices // self.rows
        for epoch in np.unique(epochs).tolist():
            in_epoch = epochs == epoch
            result[in_epoch] = self._epoch(epoch).rows_at(indices[in_epoch] % self.rows)
        return result

    def inverse(self, rows: Indices, end: int) -> Indices:
        """Return the indices below ``end`` of any of these rows, ascending."""
        epochs = range(-(-end // self.rows))
        per_epoch = [epoch * self.rows + self._epoch(epoch).inverse(rows) for epoch in epochs]
        indices = np.sort(np.concatenate([np.zeros(0, np.int64), *per_epoch]))
        return indices[indices < end]

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
    """An epoch in windows of blocks.

    A block's position after the permutation is its slot. The last block may be shorter than the
    others; it is at ``_last_block_slot``.
    """

    name: tuple[str | int, ...]
    rows: int
    block_rows: int
    window_blocks: int

    def rows_at(self, indices: Indices) -> Indices:
        unshuffled = self._permute_within_windows(indices, permute)
        slots = self._slot_at(unshuffled)
        blocks = permute(slots, derive_round_keys(self.name), self._blocks)
        return blocks * self.block_rows + unshuffled - self._slot_start(slots)

    def inverse(self, rows: Indices) -> Indices:
        slots = unpermute(rows // self.block_rows, derive_round_keys(self.name), self._blocks)
        return self._permute_within_windows(
            self._slot_start(slots) + rows % self.block_rows, unpermute
        )

    def _permute_within_windows(self, indices: Indices, permutation: Permutation) -> Indices:
        """Apply ``permute`` or ``unpermute`` to indices, each inside its window."""
        result = np.empty_like(indices)
        windows = self._slot_at(indices) // self.window_blocks
        for window in np.unique(windows).tolist():
            ends = np.minimum(np.array([window, window + 1]) * self.window_blocks, self._blocks)
            first, end = self._slot_start(ends).tolist()
            inside = windows == window
            keys = derive_round_keys((*self.name, "pool", window))
            result[inside] = first + permutation(indices[inside] - first, keys, end - first)
        return result

    @property
    def _blocks(self) -> int:
        return -(-self.rows // self.block_rows)

    @property
    def _last_block_deficit(self) -> int:
        """Number of rows by which the last block is shorter than the others."""
        return self._blocks * self.block_rows - self.rows

    @property
    def _last_block_slot(self) -> int:
        """The slot of the last block."""
        return _find_last_block_slot(self.name, self._blocks)

    def _slot_start(self, slots: Indices) -> Indices:
        """Return the index at which a slot starts."""
        return slots * self.block_rows - np.where(
            slots > self._last_block_slot, self._last_block_deficit, 0
        )

    def _slot_at(self, indices: Indices) -> Indices:
        """Return the slot that contains an index."""
        after = indices >= (self._last_block_slot + 1) * self.block_rows - self._last_block_deficit
        return np.where(after, indices + self._last_block_deficit, indices) // self.block_rows


@lru_cache(maxsize=4096)
def _find_last_block_slot(name: tuple[str | int, ...], blocks: int) -> int:
    return int(unpermute(np.array([blocks - 1]), derive_round_keys(name), blocks)[0])


def count_rows(tokens: int, context_length: int) -> int:
    """Return the number of rows in so many tokens; raise ``TooFewTokensError`` if it is 0."""
    if tokens <= context_length:
        raise TooFewTokensError(
            f"the training split has {tokens} tokens; a context of {context_length} needs {context_length + 1}"
        )
    return (tokens - 1) // context_length


def batch_for_step(step: int, skip: Ranges) -> int:
    """Return the batch of a 0-based step: the ``step``-th of those that are not skipped.

    ``skip``: half-open ranges of skipped batches; they may overlap.
    """
    batch = step
    for first, end in merge_ranges(skip):
        if batch < first:
            break
        batch += end - first
    return batch


def step_for_batch(batch: int, skip: Ranges) -> int | None:
    """Return the step that trains on a batch; ``None`` if the batch is skipped."""
    step = batch
    for first, end in merge_ranges(skip):
        if batch < first:
            break
        if batch < end:
            return None
        step -= end - first
    return step


def merge_ranges(ranges: Ranges) -> list[tuple[int, int]]:
    """Return the same numbers as ascending ranges with gaps between them."""
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
    """Return the round keys of the permutation of this name."""
    raw = bytes.fromhex(json_sha256(list(name)))
    return np.frombuffer(raw * 2, dtype="<u8", count=FEISTEL_ROUNDS).astype(np.uint64)


def derive_round_keys_each(base: Keys, numbers: Indices) -> Keys:
    """Return round keys for each number, uint64[FEISTEL_ROUNDS, n], without a digest for each."""
    return splitmix64(numbers.astype(np.uint64)[None, :], base[:, None])


def permute(values: Indices, round_keys: Keys, size: int) -> Indices:
    """Apply a permutation of ``range(size)`` to some of its members.

    A Feistel network over the smallest even number of bits that holds ``size``, applied again while
    the result is outside: cycle walking (Black & Rogaway 2002, "Ciphers with arbitrary finite
    domains").

    ``round_keys``: uint64[FEISTEL_ROUNDS], or uint64[FEISTEL_ROUNDS, n]: a permutation per value.
    """
    return _cycle_walk(values, round_keys, size, forward=True)


def unpermute(values: Indices, round_keys: Keys, size: int) -> Indices:
    """Apply the inverse of ``permute``."""
    return _cycle_walk(values, round_keys, size, forward=False)


def _cycle_walk(values: Indices, round_keys: Keys, size: int, *, forward: bool) -> Indices:
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    current = _feistel(values.astype(np.uint64), round_keys, half, forward=forward)
    outside = current >= size
    while outside.any():
        keys = round_keys if round_keys.ndim == 1 else round_keys[:, outside]
        current[outside] = _feistel(current[outside], keys, half, forward=forward)
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
