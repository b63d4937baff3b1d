"""Prompts that begin alike are read once: states of what was read, by its tokens, within a bound of memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from infra.compute.arrays import I64
from serve.engines.batched.step_model import PrefixModel, State

MIN_TOKENS = 8  # a shorter prefix is read again faster than it is found and copied


@dataclass(frozen=True)
class Entry:
    """The state of a model after some tokens.

    Attributes:
        ids: int64[n].
        state: of ``PrefixModel.save``.
        size: bytes.
    """

    ids: I64
    state: State
    size: int


class PrefixCache:
    """States of prompts and of what was generated after them; the least recently used go first.

    An entry that begins another one is not kept, if the model has the states of all prefixes.
    """

    def __init__(self, model: PrefixModel, max_bytes: int) -> None:
        """Keep at most ``max_bytes`` of states."""
        self._model, self._max_bytes = model, max_bytes
        self._entries: list[Entry] = []  # the most recently used last

    @property
    def size(self) -> int:
        """Bytes of all states."""
        return sum(entry.size for entry in self._entries)

    def restore(self, row: int, ids: Sequence[int]) -> int:
        """Set a row to the state after the longest known prefix, and return its length.

        At least the last token is left to be read, since its logits are wanted.
        """
        wanted = np.array(ids[:-1], np.int64)
        best, length = None, 0
        for number, entry in enumerate(self._entries):
            common = _common_prefix(entry.ids, wanted)
            if not self._model.keeps_every_prefix and common < len(entry.ids):
                continue
            if common > length:
                best, length = number, common
        if best is None or length < MIN_TOKENS:
            return 0
        self._entries.append(self._entries.pop(best))
        self._model.load(row, self._entries[-1].state, length)
        return length

    def store(self, row: int, ids: Sequence[int]) -> None:
        """Keep the state of a row that has read these tokens."""
        own = np.array(ids, np.int64)
        if len(own) < MIN_TOKENS or any(
            _holds(entry.ids, own, self._model) for entry in self._entries
        ):
            return
        state = self._model.save(row, len(own))
        size = own.nbytes + sum(tensor.nbytes for tensor in state)
        if size > self._max_bytes:
            return
        self._entries = [
            entry for entry in self._entries if not _holds(own, entry.ids, self._model)
        ]
        self._entries.append(Entry(own, state, size))
        while self.size > self._max_bytes:
            self._entries.pop(0)


def _common_prefix(first: I64, second: I64) -> int:
    size = min(len(first), len(second))
    differs = np.flatnonzero(first[:size] != second[:size])
    return int(differs[0]) if len(differs) else size


def _holds(long: I64, short: I64, model: PrefixModel) -> bool:
    """Return whether the state after ``long`` makes that after ``short`` superfluous."""
    if len(long) < len(short) or (len(long) > len(short) and not model.keeps_every_prefix):
        return False
    return _common_prefix(long, short) == len(short)
