"""Prompts that begin alike are read once: states of what was read, by its tokens, within a bound of memory."""

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serve.engines.batched.step_model import PrefixModel, State

MIN_TOKENS = 8  # a shorter prefix is read again faster than it is found and copied
TOKEN_BYTES = 4  # of a token in a key


@dataclass(frozen=True)
class Entry:
    """The state of a model after some tokens.

    Attributes:
        state: of ``PrefixModel.save``.
        size: bytes, with those of its key.
    """

    state: State
    size: int


class PrefixCache:
    """States of prompts and of what was generated after them; the least recently used go first.

    An entry that begins another one is not kept, if the model has the states of all prefixes. Entries are found by
    binary search: of all keys in the order of their tokens, the two beside a text have the most in common with it.
    """

    def __init__(self, model: PrefixModel, max_bytes: int) -> None:
        """Keep at most ``max_bytes`` of states."""
        self._model, self._max_bytes = model, max_bytes
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()  # the most recently used last
        self._keys: list[bytes] = []  # sorted
        self.size = 0  # bytes of all entries

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self._entries)

    def restore(self, row: int, ids: Sequence[int]) -> int:
        """Set a row to the state after the longest known prefix, and return its length.

        At least the last token is left to be read, since its logits are wanted.
        """
        wanted = _to_key(ids[:-1])
        find = self._find_similar if self._model.keeps_every_prefix else self._find_prefix
        key, length = find(wanted)
        if key is None or length < MIN_TOKENS:
            return 0
        self._entries.move_to_end(key)
        self._model.load(row, self._entries[key].state, length)
        return length

    def store(self, row: int, ids: Sequence[int]) -> None:
        """Keep the state of a row that has read these tokens."""
        key = _to_key(ids)
        if len(ids) < MIN_TOKENS or key in self._entries:
            return
        index = bisect_left(self._keys, key)
        shorter = None
        if self._model.keeps_every_prefix:
            if index < len(self._keys) and self._keys[index].startswith(key):
                return
            # No key begins another one here, so only the one before can begin this one.
            if index and key.startswith(self._keys[index - 1]):
                shorter = self._keys[index - 1]
        state = self._model.save(row, len(ids))
        size = len(key) + sum(tensor.nbytes for tensor in state)
        if size > self._max_bytes:
            return
        if shorter is not None:
            self._remove(shorter)
        insort(self._keys, key)
        self._entries[key] = Entry(state, size)
        self.size += size
        while self.size > self._max_bytes:
            self._remove(next(iter(self._entries)))

    def _find_similar(self, wanted: bytes) -> tuple[bytes | None, int]:
        """Return the key with the longest common prefix, of several the nearest before, else after; and its length."""
        index = bisect_right(self._keys, wanted)
        best, length = None, 0
        for key in self._keys[max(0, index - 1) : index + 1]:
            common = _common_prefix(key, wanted)
            if common > length:
                best, length = key, common
        return best, length

    def _find_prefix(self, wanted: bytes) -> tuple[bytes | None, int]:
        """Return the longest key with which these tokens begin, and its length."""
        while index := bisect_right(self._keys, wanted):
            key = self._keys[index - 1]
            if wanted.startswith(key):
                return key, len(key) // TOKEN_BYTES
            # A key that begins the tokens also begins the greatest key that is not above them.
            wanted = wanted[: _common_prefix(key, wanted) * TOKEN_BYTES]
        return None, 0

    def _remove(self, key: bytes) -> None:
        self.size -= self._entries.pop(key).size
        del self._keys[bisect_left(self._keys, key)]


def _to_key(ids: Sequence[int]) -> bytes:
    """Return tokens as bytes that sort as the tokens do."""
    return np.array(ids, ">u4").tobytes()


def _common_prefix(first: bytes, second: bytes) -> int:
    """Return the number of tokens with which two keys begin."""
    size = min(len(first), len(second))
    one, other = (np.frombuffer(key[:size], ">u4") for key in (first, second))
    differs = np.flatnonzero(one != other)
    return int(differs[0]) if len(differs) else size // TOKEN_BYTES
